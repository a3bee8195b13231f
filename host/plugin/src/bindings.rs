//! What `wit/` says, as Rust: generated, and named once here for the rest of the crate.
#![expect(missing_docs, reason = "generated; documented in wit/")]

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "plugin",
    // Borrowed arguments: a message is lowered into the guest straight from the question's bytes.
    // What two versions answer is compared.
    additional_derives: [PartialEq],
    ownership: Borrowing { duplicate_if_necessary: true },
    exports: { default: async },
});
