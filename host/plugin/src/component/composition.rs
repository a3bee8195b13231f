//! How much a component comes to when the components within it are put in their places, counted
//! before it is compiled.
//!
//! The compiler writes out each instance of a component within. 900 bytes, in which each of thirty
//! components has two of the one before it, would be a thousand million of them.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, Encoding, Parser, Payload,
};

/// Components within components. Linkers make two or three.
const NESTED_MAX: usize = 32;

/// Core modules in all; as many as may be instances.
const MODULES_MAX: u32 = 200;

/// Instances, imports, exports, functions and aliases after everything is in its place. The largest
/// components of interpreters have some thousands.
const ITEMS_MAX: u64 = 100_000;

/// Why a component is not compiled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TooComposed {
    /// Its bytes are not what they should be.
    #[error(transparent)]
    Invalid(#[from] wasmparser::BinaryReaderError),
    /// Components within components.
    #[error("it has more than {NESTED_MAX} components within one another; compose fewer")]
    Nested,
    /// Core modules.
    #[error("it has more than {MODULES_MAX} core modules; compose fewer components")]
    Modules,
    /// What it comes to.
    #[error(
        "its instances, and what those within them import, export and call, come to more than \
         {ITEMS_MAX}; compose fewer components"
    )]
    Items,
}

/// Refuses what would grow beyond bounds.
pub(crate) fn check(bytes: &[u8]) -> Result<(), TooComposed> {
    let mut open: Vec<Part> = Vec::new();
    let mut modules = 0_u32;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        match &payload {
            Payload::Version { encoding, .. } => {
                modules = modules.saturating_add(u32::from(*encoding == Encoding::Module));
                open.push(Part { is_module: *encoding == Encoding::Module, ..Part::default() });
            }
            Payload::End(_) => {
                let ended = open.pop();
                if let Some((outer, ended)) = open.last_mut().zip(ended)
                    && !ended.is_module
                {
                    outer.components.push(ended.items);
                }
            }
            _ => note(&mut open, payload)?,
        }
        if open.len() > NESTED_MAX {
            return Err(TooComposed::Nested);
        }
        if modules > MODULES_MAX {
            return Err(TooComposed::Modules);
        }
        if open.last().is_some_and(|part| !part.is_module && part.items > ITEMS_MAX) {
            return Err(TooComposed::Items);
        }
    }
    Ok(())
}

/// A component, or a module within it.
#[derive(Debug, Default)]
struct Part {
    is_module: bool,
    /// What it comes to so far.
    items: u64,
    /// What each of the components comes to that it can instantiate.
    components: Vec<u64>,
}

impl Part {
    fn add(&mut self, items: u64) {
        self.items = self.items.saturating_add(items);
    }

    /// What a component comes to; too much where only its instance would tell which one it is.
    fn component(&self, index: u32) -> u64 {
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        self.components.get(index).copied().unwrap_or(UNKNOWN)
    }
}

/// A component that comes from outside, or out of an instance. No compiler makes these.
const UNKNOWN: u64 = u64::MAX;

fn note(open: &mut [Part], payload: Payload<'_>) -> Result<(), TooComposed> {
    let depth = open.len();
    let outer = |open: &[Part], count: u32, index: u32| {
        let back = usize::try_from(count).ok().and_then(|count| count.checked_add(1));
        let place = back.and_then(|back| depth.checked_sub(back));
        place.and_then(|place| open.get(place)).map_or(UNKNOWN, |part| part.component(index))
    };
    match payload {
        Payload::ComponentImportSection(imports) => {
            for import in imports {
                let is_component = matches!(import?.ty, ComponentTypeRef::Component(_));
                add(open, 1, is_component.then_some(UNKNOWN));
            }
        }
        Payload::ComponentExportSection(exports) => {
            for export in exports {
                let export = export?;
                let is_component = export.kind == ComponentExternalKind::Component;
                let component = is_component.then(|| outer(open, 0, export.index));
                add(open, 1, component);
            }
        }
        Payload::ComponentAliasSection(aliases) => {
            for alias in aliases {
                let component = match alias? {
                    ComponentAlias::Outer {
                        kind: ComponentOuterAliasKind::Component,
                        count,
                        index,
                    } => Some(outer(open, count, index)),
                    ComponentAlias::InstanceExport {
                        kind: ComponentExternalKind::Component,
                        ..
                    } => Some(UNKNOWN),
                    _ => None,
                };
                add(open, 1, component);
            }
        }
        Payload::ComponentInstanceSection(instances) => {
            for instance in instances {
                let items = match instance? {
                    ComponentInstance::Instantiate { component_index, args } => {
                        outer(open, 0, component_index)
                            .saturating_add(u64::try_from(args.len()).unwrap_or(u64::MAX))
                    }
                    ComponentInstance::FromExports(exports) => {
                        u64::try_from(exports.len()).unwrap_or(u64::MAX)
                    }
                };
                add(open, items.saturating_add(1), None);
            }
        }
        Payload::InstanceSection(instances) => add(open, u64::from(instances.count()), None),
        Payload::ComponentCanonicalSection(functions) => {
            add(open, u64::from(functions.count()), None);
        }
        _ => {}
    }
    Ok(())
}

fn add(open: &mut [Part], items: u64, component: Option<u64>) {
    if let Some(part) = open.last_mut() {
        part.add(items);
        part.components.extend(component);
    }
}
