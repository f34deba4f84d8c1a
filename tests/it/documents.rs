//! The tests that documents name as proof exist.

use std::path::Path;

const DOCUMENTS: [&str; 2] = ["docs/architecture.md", "docs/security.md"];

/// The texts between backquotes.
fn quoted(document: &str) -> impl Iterator<Item = &str> {
    document.split('`').skip(1).step_by(2)
}

#[test]
fn every_test_that_a_document_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    for document in DOCUMENTS {
        let text = std::fs::read_to_string(root.join(document)).expect("a document");
        for name in quoted(&text) {
            let exists = if let Some((module, test)) = name.split_once("::") {
                // A test in `src`, or none at all, such as a function, is not looked for.
                let Ok(source) = std::fs::read_to_string(root.join(format!("tests/it/{module}.rs"))) else {
                    continue;
                };
                test == "…" || source.contains(&format!("fn {test}("))
            } else if name.starts_with("tests/") && !name.contains(' ') {
                root.join(name).exists()
            } else {
                true
            };
            if !exists {
                missing.push(format!("{document}: {name}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
