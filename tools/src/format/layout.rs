//! Values of constants, sizes of types, offsets of fields.

use std::collections::BTreeMap;
use std::io;

use syn::{BinOp, Expr, ExprLit, Lit, Type, UnOp};

use super::source::{Chapter, Constant, Struct, size_of_argument};

/// Types that are made of nothing else, with their sizes. All are unaligned, so that a struct of them has no gaps.
const PRIMITIVES: [(&str, u64); 11] = [
    ("u8", 1),
    ("i8", 1),
    ("U16", 2),
    ("I16", 2),
    ("U32", 4),
    ("I32", 4),
    ("F32", 4),
    ("U64", 8),
    ("I64", 8),
    ("F64", 8),
    ("U128", 16),
];

/// A constant's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(u64),
    /// A byte string.
    Bytes(Vec<u8>),
    /// Numbers in a row.
    Numbers(Vec<u64>),
}

/// What names mean, by module.
pub struct Names<'a> {
    constants: Vec<(&'a str, &'a Constant)>,
    structs: Vec<(&'a str, &'a Struct)>,
    imports: BTreeMap<(&'a str, &'a str), &'a str>,
    /// The constants of the engine's limits.
    pub limits: &'a Chapter,
}

impl<'a> Names<'a> {
    /// Takes all names in, and holds every size that the sources assert against the one computed here.
    pub fn new(chapters: &'a [Chapter], limits: &'a Chapter) -> io::Result<Self> {
        let mut names =
            Names { constants: Vec::new(), structs: Vec::new(), imports: BTreeMap::new(), limits };
        for chapter in chapters.iter().chain([limits]) {
            let module = chapter.name.as_str();
            names.constants.extend(chapter.constants.iter().map(|constant| (module, constant)));
            names.structs.extend(chapter.structs.iter().map(|layout| (module, layout)));
            let imports = chapter.imports.iter();
            // `super` of a file is the folder's own module.
            let from = |from: &'a str| if from == "super" { "mod" } else { from };
            names.imports.extend(imports.map(|(module_of, name)| ((module, name.as_str()), from(module_of))));
        }
        for chapter in chapters {
            for (name, expr) in &chapter.asserted {
                let asserted = names.number(&chapter.name, expr)?;
                let computed = names.size_of(&chapter.name, name)?;
                if asserted != computed {
                    let what = format!("{asserted} bytes are asserted, {computed} computed");
                    return Err(error(&chapter.name, name, &what));
                }
            }
        }
        Ok(names)
    }

    /// The struct that a name means in a module, and the module it is declared in.
    pub fn layout(&self, module: &str, name: &str) -> Option<(&'a str, &'a Struct)> {
        let all = self.structs.iter().copied().filter(|(_, layout)| layout.name == name);
        self.choose(module, name, "", all.collect())
    }

    /// Whether other modules have a struct of that name, too.
    pub fn is_ambiguous(&self, name: &str) -> bool {
        self.structs.iter().filter(|(_, layout)| layout.name == name).count() > 1
    }

    /// Of what bears the name: the module's own, the imported, the named module's, or the only one.
    fn choose<T: Copy>(
        &self,
        module: &str,
        name: &str,
        named: &str,
        all: Vec<(&'a str, T)>,
    ) -> Option<(&'a str, T)> {
        let imported = self.imports.get(&(module, name)).copied().unwrap_or_default();
        let is_in = |found: &str, wanted: &str| {
            !wanted.is_empty() && (found == wanted || found.ends_with(&format!("::{wanted}")))
        };
        let wanted = if named.is_empty() { [module, imported] } else { [named, named] };
        let found = wanted.iter().find_map(|wanted| all.iter().find(|(found, _)| is_in(found, wanted)));
        found.or(if all.len() == 1 { all.first() } else { None }).copied()
    }

    /// Bytes of a struct.
    pub fn size_of(&self, module: &str, name: &str) -> io::Result<u64> {
        let (module, layout) = self
            .layout(module, name)
            .ok_or_else(|| error(module, name, "is no unaligned #[repr(C)] struct of the format"))?;
        layout.fields.iter().map(|field| self.type_size(module, &field.ty)).sum()
    }

    /// Bytes of a field's type.
    pub fn type_size(&self, module: &str, ty: &Type) -> io::Result<u64> {
        match ty {
            Type::Array(array) => Ok(self.type_size(module, &array.elem)? * self.number(module, &array.len)?),
            Type::Path(_) => {
                let name = path_name(ty).unwrap_or_default();
                match PRIMITIVES.iter().find(|(known, _)| *known == name) {
                    Some((_, size)) => Ok(*size),
                    None => self.size_of(module, &name),
                }
            }
            _ => Err(error(module, "a field", "has a type that is neither a name nor an array")),
        }
    }

    /// The number that an expression comes to.
    pub fn number(&self, module: &str, expr: &Expr) -> io::Result<u64> {
        match self.value(module, expr)? {
            Value::Number(number) => Ok(number),
            other => Err(error(module, &format!("{other:?}"), "is not a number")),
        }
    }

    /// What an expression comes to.
    pub fn value(&self, module: &str, expr: &Expr) -> io::Result<Value> {
        Ok(match expr {
            Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => {
                Value::Number(number.base10_parse().map_err(io::Error::other)?)
            }
            Expr::Lit(ExprLit { lit: Lit::Byte(byte), .. }) => Value::Number(byte.value().into()),
            Expr::Lit(ExprLit { lit: Lit::ByteStr(bytes), .. }) => Value::Bytes(bytes.value()),
            Expr::Unary(unary) if matches!(unary.op, UnOp::Deref(_)) => self.value(module, &unary.expr)?,
            Expr::Reference(reference) => self.value(module, &reference.expr)?,
            Expr::Paren(paren) => self.value(module, &paren.expr)?,
            Expr::Cast(cast) => self.value(module, &cast.expr)?,
            Expr::Array(array) => {
                let numbers = array.elems.iter().map(|element| self.number(module, element));
                Value::Numbers(numbers.collect::<io::Result<_>>()?)
            }
            Expr::Binary(binary) => {
                let (left, right) = (self.number(module, &binary.left)?, self.number(module, &binary.right)?);
                Value::Number(operate(&binary.op, left, right).ok_or_else(|| {
                    error(module, "a constant", "uses an operator that is not understood, or overflows")
                })?)
            }
            Expr::Call(_) => match size_of_argument(expr) {
                Some(name) => Value::Number(self.size_of(module, &name)?),
                None => return Err(error(module, "a constant", "calls a function that is not size_of")),
            },
            Expr::Path(path) => {
                let segments: Vec<String> =
                    path.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
                match segments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                    ["u8", "MAX"] => Value::Number(u8::MAX.into()),
                    ["u16", "MAX"] => Value::Number(u16::MAX.into()),
                    ["u32", "MAX"] => Value::Number(u32::MAX.into()),
                    ["u64" | "usize", "MAX"] => Value::Number(u64::MAX),
                    _ => {
                        let (found, constant) = self.constant(module, &segments)?;
                        self.value(found, &constant.value)?
                    }
                }
            }
            _ => return Err(error(module, "a constant", "has an expression that is not understood")),
        })
    }

    /// The constant that a path names.
    fn constant(&self, module: &str, segments: &[String]) -> io::Result<(&'a str, &'a Constant)> {
        let name = segments.last().map_or("", String::as_str);
        let named = segments.len().checked_sub(2).map_or("", |index| segments[index].as_str());
        // `super` of a file is the folder's own module.
        let named = if named == "super" { "mod" } else { named };
        let all = self.constants.iter().copied().filter(|(_, constant)| constant.name == name);
        self.choose(module, name, named, all.collect())
            .ok_or_else(|| error(module, name, "names no constant, or several"))
    }
}

/// The last part of a type's path.
pub fn path_name(ty: &Type) -> Option<String> {
    match ty {
        Type::Path(path) => Some(path.path.segments.last()?.ident.to_string()),
        _ => None,
    }
}

fn operate(op: &BinOp, left: u64, right: u64) -> Option<u64> {
    match op {
        BinOp::Add(_) => left.checked_add(right),
        BinOp::Sub(_) => left.checked_sub(right),
        BinOp::Mul(_) => left.checked_mul(right),
        BinOp::Div(_) => left.checked_div(right),
        BinOp::Rem(_) => left.checked_rem(right),
        BinOp::Shl(_) => left.checked_mul(1u64.checked_shl(u32::try_from(right).ok()?)?),
        BinOp::Shr(_) => left.checked_shr(u32::try_from(right).ok()?),
        BinOp::BitOr(_) => Some(left | right),
        BinOp::BitAnd(_) => Some(left & right),
        _ => None,
    }
}

fn error(module: &str, name: &str, what: &str) -> io::Error {
    io::Error::other(format!("{module}::{name}: {what}"))
}
