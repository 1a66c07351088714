//! A bench of criterion's is also a test: started without `--bench`, each of its functions runs once.

/// Whether that is so: the input may be as small as it gets.
pub fn is_test() -> bool {
    !std::env::args().any(|argument| argument == "--bench")
}
