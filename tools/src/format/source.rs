//! What the Rust files of the format declare, as far as the page shows it.

use std::fs;
use std::io;
use std::path::Path;

use syn::punctuated::Punctuated;
use syn::{
    Attribute, Expr, ExprLit, Fields, ImplItem, Item, ItemEnum, ItemImpl, ItemStruct, Lit, Meta, Pat, Stmt,
    Token, Type, UseTree,
};

/// One file.
pub struct Chapter {
    /// The module's name; `mod` for the folder itself.
    pub name: String,
    /// Its path in the folder.
    pub file: String,
    /// Its documentation, line by line.
    pub docs: Vec<String>,
    /// Its constants, in order.
    pub constants: Vec<Constant>,
    /// Its `#[repr(C)]` structs, in order.
    pub structs: Vec<Struct>,
    /// Its enums that have codes on disk.
    pub codes: Vec<Codes>,
    /// Sizes that `const _: () = assert!(size_of::<T>() == N)` states.
    pub asserted: Vec<(String, Expr)>,
    /// What it imports: the module (the last part of its path) and the name.
    pub imports: Vec<(String, String)>,
}

/// A constant.
pub struct Constant {
    /// Its name.
    pub name: String,
    /// Its documentation.
    pub docs: Vec<String>,
    /// Its value.
    pub value: Expr,
    /// Whether others can see it.
    pub is_public: bool,
}

/// A struct that lies on disk.
pub struct Struct {
    /// Its name.
    pub name: String,
    /// Its documentation.
    pub docs: Vec<String>,
    /// Its fields, in order.
    pub fields: Vec<Field>,
}

/// A field of one.
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its documentation.
    pub docs: Vec<String>,
    /// Its type.
    pub ty: Type,
}

/// An enum with a `fn code`, or with discriminants.
pub struct Codes {
    /// Its name.
    pub name: String,
    /// Its documentation, and that of its `fn code`.
    pub docs: Vec<String>,
    /// Code, variant and documentation, by code.
    pub variants: Vec<(u64, String, Vec<String>)>,
}

/// The files of the folder and of folders in it: `mod.rs` first, then in the order in which its documentation names them, then the rest. A file that it does not
/// name and that declares nothing is code.
pub fn read(folder: &Path) -> io::Result<Vec<Chapter>> {
    let mut chapters = Vec::new();
    collect(folder, "", &mut chapters)?;
    let overview = chapters.iter().find(|chapter| chapter.name == "mod").map(|chapter| chapter.docs.clone());
    let overview = overview.unwrap_or_default();
    let position = |name: &str| overview.iter().position(|line| line.contains(&format!("[`{name}`]")));
    chapters.retain(|chapter| {
        let declares = !chapter.structs.is_empty() || !chapter.codes.is_empty();
        chapter.name == "mod" || declares || position(&chapter.name).is_some()
    });
    chapters.sort_by_key(|chapter| {
        let position = position(&chapter.name).unwrap_or(usize::MAX);
        (chapter.name != "mod", position, chapter.name.clone())
    });
    Ok(chapters)
}

fn collect(folder: &Path, prefix: &str, into: &mut Vec<Chapter>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            collect(&path, &format!("{prefix}{stem}::"), into)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") && stem != "tests" {
            let name = match (stem.as_str(), prefix.strip_suffix("::")) {
                ("mod", Some(folder)) => folder.to_owned(),
                _ => format!("{prefix}{stem}"),
            };
            let file = format!("{prefix}{stem}.rs").replace("::", "/");
            into.push(Chapter { file, ..read_file(&path, &name)? });
        }
    }
    Ok(())
}

/// One file.
pub fn read_file(path: &Path, name: &str) -> io::Result<Chapter> {
    let text = fs::read_to_string(path)?;
    parse(&text, name).map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
}

/// One file's text.
pub fn parse(text: &str, name: &str) -> syn::Result<Chapter> {
    let file = syn::parse_file(text)?;
    let mut chapter = Chapter {
        name: name.to_owned(),
        file: format!("{name}.rs"),
        docs: docs(&file.attrs),
        constants: Vec::new(),
        structs: Vec::new(),
        codes: Vec::new(),
        asserted: Vec::new(),
        imports: Vec::new(),
    };
    for item in &file.items {
        match item {
            Item::Const(item) if item.ident == "_" => chapter.asserted.extend(asserted_size(&item.expr)),
            Item::Const(item) => chapter.constants.push(Constant {
                name: item.ident.to_string(),
                docs: docs(&item.attrs),
                value: (*item.expr).clone(),
                is_public: !matches!(item.vis, syn::Visibility::Inherited),
            }),
            Item::Struct(item) if is_repr_c(&item.attrs) => chapter.structs.push(read_struct(item)?),
            Item::Enum(item) => chapter.codes.extend(discriminants(item)),
            Item::Impl(item) => chapter.codes.extend(codes(item, &file.items)),
            Item::Use(item) => imports(&item.tree, "", &mut chapter.imports),
            _ => {}
        }
    }
    Ok(chapter)
}

fn read_struct(item: &ItemStruct) -> syn::Result<Struct> {
    let Fields::Named(fields) = &item.fields else {
        return Err(syn::Error::new(item.ident.span(), "a struct on disk has named fields"));
    };
    let fields = fields.named.iter().map(|field| Field {
        name: field.ident.as_ref().map(ToString::to_string).unwrap_or_default(),
        docs: docs(&field.attrs),
        ty: field.ty.clone(),
    });
    Ok(Struct { name: item.ident.to_string(), docs: docs(&item.attrs), fields: fields.collect() })
}

/// The lines of `///` and `//!`, without the space that follows them.
fn docs(attributes: &[Attribute]) -> Vec<String> {
    let lines = attributes.iter().filter_map(|attribute| match &attribute.meta {
        Meta::NameValue(meta) if meta.path.is_ident("doc") => match &meta.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    });
    lines.map(|line| line.strip_prefix(' ').unwrap_or(&line).to_owned()).collect()
}

fn is_repr_c(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let mut is_c = false;
        let is_repr = attribute.path().is_ident("repr");
        let parsed = is_repr.then(|| {
            attribute.parse_nested_meta(|meta| {
                is_c |= meta.path.is_ident("C");
                Ok(())
            })
        });
        matches!(parsed, Some(Ok(()))) && is_c
    })
}

/// `assert!(size_of::<T>() == N)`.
fn asserted_size(expr: &Expr) -> Option<(String, Expr)> {
    let Expr::Macro(call) = expr else { return None };
    let arguments = call.mac.parse_body_with(Punctuated::<Expr, Token![,]>::parse_terminated).ok()?;
    let Some(Expr::Binary(comparison)) = arguments.first() else { return None };
    let is_equality = matches!(comparison.op, syn::BinOp::Eq(_));
    let of = size_of_argument(&comparison.left)?;
    is_equality.then(|| (of, (*comparison.right).clone()))
}

/// The `T` of `size_of::<T>()`.
pub fn size_of_argument(expr: &Expr) -> Option<String> {
    let Expr::Call(call) = expr else { return None };
    let Expr::Path(function) = call.func.as_ref() else { return None };
    let segment = function.path.segments.last().filter(|segment| segment.ident == "size_of")?;
    let syn::PathArguments::AngleBracketed(arguments) = &segment.arguments else { return None };
    match arguments.args.first()? {
        syn::GenericArgument::Type(Type::Path(path)) => Some(path.path.segments.last()?.ident.to_string()),
        _ => None,
    }
}

/// An enum whose variants all say their number.
fn discriminants(item: &ItemEnum) -> Option<Codes> {
    let variants: Option<Vec<_>> = item
        .variants
        .iter()
        .map(|variant| {
            let (_, expr) = variant.discriminant.as_ref()?;
            Some((literal(expr)?, variant.ident.to_string(), docs(&variant.attrs)))
        })
        .collect();
    let variants = variants.filter(|variants| !variants.is_empty())?;
    Some(sorted(item.ident.to_string(), docs(&item.attrs), variants))
}

/// `impl E { fn code(self) -> u8 { match self { E::A => 1, .. } } }`.
fn codes(item: &ItemImpl, items: &[Item]) -> Option<Codes> {
    let Type::Path(path) = item.self_ty.as_ref() else { return None };
    let name = path.path.segments.last()?.ident.to_string();
    let function = item.items.iter().find_map(|item| match item {
        ImplItem::Fn(function) if function.sig.ident == "code" => Some(function),
        _ => None,
    })?;
    let [Stmt::Expr(Expr::Match(table), None)] = function.block.stmts.as_slice() else { return None };
    let declaration = items.iter().find_map(|item| match item {
        Item::Enum(item) if item.ident == name => Some(item),
        _ => None,
    })?;
    let mut variants = Vec::new();
    for arm in &table.arms {
        let variant = match &arm.pat {
            Pat::Path(path) => &path.path.segments.last()?.ident,
            Pat::TupleStruct(pattern) => &pattern.path.segments.last()?.ident,
            Pat::Struct(pattern) => &pattern.path.segments.last()?.ident,
            Pat::Ident(pattern) => &pattern.ident,
            _ => return None,
        };
        let declared = declaration.variants.iter().find(|declared| declared.ident == *variant)?;
        variants.push((literal(&arm.body)?, variant.to_string(), docs(&declared.attrs)));
    }
    let text = [docs(&declaration.attrs), docs(&function.attrs)].concat();
    Some(sorted(name, text, variants))
}

fn sorted(name: String, docs: Vec<String>, mut variants: Vec<(u64, String, Vec<String>)>) -> Codes {
    variants.sort_by_key(|(code, ..)| *code);
    Codes { name, docs, variants }
}

fn literal(expr: &Expr) -> Option<u64> {
    match expr {
        Expr::Lit(ExprLit { lit: Lit::Int(number), .. }) => number.base10_parse().ok(),
        Expr::Lit(ExprLit { lit: Lit::Byte(byte), .. }) => Some(byte.value().into()),
        _ => None,
    }
}

/// The names that a `use` brings in, each with the module that it names last.
fn imports(tree: &UseTree, module: &str, into: &mut Vec<(String, String)>) {
    match tree {
        UseTree::Path(path) => imports(&path.tree, &path.ident.to_string(), into),
        UseTree::Name(name) => into.push((module.to_owned(), name.ident.to_string())),
        UseTree::Group(group) => group.items.iter().for_each(|tree| imports(tree, module, into)),
        UseTree::Rename(_) | UseTree::Glob(_) => {}
    }
}
