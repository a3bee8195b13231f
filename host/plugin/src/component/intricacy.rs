//! How much work a component makes for the compiler, counted before it is compiled.
//!
//! The compiler has no bound of its own and cannot be stopped: 50 kB of functions made for it take
//! gigabytes and minutes, where an interpreter of 20 MB takes seconds. What makes the difference is
//! counted here in one pass over the functions, by what compilers of other languages never make.

use wasmparser::{
    BlockType, CompositeInnerType, Encoding, FunctionBody, Operator, Parser, Payload, TypeRef,
};

/// Loops within loops of one function: the compiler's time grows with the third power of them. A
/// JavaScript engine has 21.
const LOOPS_DEEP_MAX: u32 = 100;

/// Blocks within blocks of one function, by which it grows with the second power. A `switch` has one
/// for each case; CPython has 781.
const BLOCKS_DEEP_MAX: usize = 10_000;

/// Values of one function: each takes the compiler some microseconds and 1,000 bytes at the worst.
/// The largest function of CPython has 170,000.
const FUNCTION_VALUES_MAX: u64 = 1_000_000;

/// Values of all functions together. CPython has 5,000,000.
const COMPONENT_VALUES_MAX: u64 = 50_000_000;

/// The compiler looks at all loops for each of them, and at all branches for each, which is so much
/// faster that so many of them count as one value.
const BRANCHES_OF_A_VALUE: u64 = 128;

/// A branch hands on locals, which is cheaper than what happens to them where branches meet.
const LOCALS_OF_A_VALUE: u64 = 16;

/// Why a component is not compiled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TooIntricate {
    /// Its bytes are not what they should be.
    #[error(transparent)]
    Invalid(#[from] wasmparser::BinaryReaderError),
    /// Loops within loops.
    #[error(
        "the function at byte {at} has more than {LOOPS_DEEP_MAX} loops within one another, which \
         takes too long to compile"
    )]
    Loops { at: u64 },
    /// Blocks within blocks.
    #[error(
        "the function at byte {at} has more than {BLOCKS_DEEP_MAX} blocks within one another, \
         which takes too long to compile"
    )]
    Blocks { at: u64 },
    /// One function is too much.
    #[error(
        "the function at byte {at} is too large to compile: its locals, branches, calls and \
         instructions come to more than {FUNCTION_VALUES_MAX} values; divide it"
    )]
    Function { at: u64 },
    /// All of them together are.
    #[error(
        "its functions are too large to compile: their locals, branches, calls and instructions \
         come to more than {COMPONENT_VALUES_MAX} values; divide the component"
    )]
    Component,
}

/// Refuses what would take the compiler too long or too much memory.
pub(crate) fn check(bytes: &[u8]) -> Result<(), TooIntricate> {
    let mut module = Module::default();
    let mut values = 0_u64;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            // Modules stand in components, one after the other.
            Payload::Version { encoding: Encoding::Module, .. } => module = Module::default(),
            Payload::TypeSection(types) => {
                for group in types {
                    module.types.extend(group?.into_types().map(
                        |one| match one.composite_type.inner {
                            CompositeInnerType::Func(function) => {
                                Signature::of(function.params().len(), function.results().len())
                            }
                            _ => Signature::default(),
                        },
                    ));
                }
            }
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    if let TypeRef::Func(of) | TypeRef::FuncExact(of) = import?.ty {
                        module.functions.push(module.signature(of));
                    }
                }
            }
            Payload::FunctionSection(functions) => {
                module.bodies_begin = module.functions.len();
                for of in functions {
                    module.functions.push(module.signature(of?));
                }
            }
            Payload::CodeSectionEntry(body) => {
                values = values.saturating_add(module.function(&body)?);
                if values > COMPONENT_VALUES_MAX {
                    return Err(TooIntricate::Component);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// How many values a function, a block or a call takes and gives.
#[derive(Debug, Clone, Copy, Default)]
struct Signature {
    params: u64,
    values: u64,
}

impl Signature {
    fn of(params: usize, results: usize) -> Self {
        let [params, results] =
            [params, results].map(|count| u64::try_from(count).unwrap_or(u64::MAX));
        Self { params, values: params.saturating_add(results) }
    }
}

#[derive(Debug, Default)]
struct Module {
    types: Vec<Signature>,
    functions: Vec<Signature>,
    bodies_begin: usize,
}

impl Module {
    fn signature(&self, index: u32) -> Signature {
        at(&self.types, index)
    }

    /// The values of the next function.
    fn function(&mut self, body: &FunctionBody<'_>) -> Result<u64, TooIntricate> {
        let at = body.range().start;
        let own = self.functions.get(self.bodies_begin).copied().unwrap_or_default();
        self.bodies_begin = self.bodies_begin.saturating_add(1);
        let mut locals = own.params;
        for declared in body.get_locals_reader()? {
            locals = locals.saturating_add(u64::from(declared?.0));
        }
        let mut values = locals;
        let mut flow = Flow::default();
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let operator = operators.read()?;
            flow.note(&operator);
            if flow.loops_deep > LOOPS_DEEP_MAX {
                return Err(TooIntricate::Loops { at });
            }
            if flow.open.len() > BLOCKS_DEEP_MAX {
                return Err(TooIntricate::Blocks { at });
            }
            values = values.saturating_add(self.values(&operator, locals, &flow));
            if values > FUNCTION_VALUES_MAX {
                return Err(TooIntricate::Function { at });
            }
        }
        Ok(values)
    }

    fn values(&self, operator: &Operator<'_>, locals: u64, flow: &Flow) -> u64 {
        let branch = 1 + locals / LOCALS_OF_A_VALUE + flow.branches / BRANCHES_OF_A_VALUE;
        // Each local may have another value wherever branches meet.
        let meet = |of: &BlockType| branch.saturating_add(locals).saturating_add(self.block(of));
        match operator {
            Operator::Block { blockty } | Operator::If { blockty } => meet(blockty),
            Operator::TryTable { try_table } => meet(&try_table.ty),
            Operator::Loop { blockty } => meet(blockty).saturating_add(flow.loops),
            Operator::Else => locals,
            Operator::BrIf { .. } => branch,
            Operator::BrTable { targets } => {
                u64::from(targets.len()).saturating_mul(3 + locals / LOCALS_OF_A_VALUE)
            }
            Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                at(&self.functions, *function_index).values
            }
            Operator::CallIndirect { type_index, .. }
            | Operator::ReturnCallIndirect { type_index, .. } => self.signature(*type_index).values,
            _ => 1,
        }
    }

    fn block(&self, block: &BlockType) -> u64 {
        match block {
            BlockType::FuncType(index) => self.signature(*index).values,
            BlockType::Empty | BlockType::Type(_) => 0,
        }
    }
}

/// `Default` where there is no such index, which is the validator's to refuse.
fn at(signatures: &[Signature], index: u32) -> Signature {
    let index = usize::try_from(index).unwrap_or(usize::MAX);
    signatures.get(index).copied().unwrap_or_default()
}

/// Loops and branches of one function so far.
#[derive(Debug, Default)]
struct Flow {
    /// Blocks that are open, and whether each is a loop.
    open: Vec<bool>,
    loops_deep: u32,
    loops: u64,
    branches: u64,
}

impl Flow {
    fn note(&mut self, operator: &Operator<'_>) {
        match operator {
            Operator::Loop { .. } => {
                self.open.push(true);
                self.loops_deep = self.loops_deep.saturating_add(1);
                self.loops = self.loops.saturating_add(1);
            }
            Operator::Block { .. } | Operator::If { .. } | Operator::TryTable { .. } => {
                self.open.push(false);
                self.branches = self.branches.saturating_add(1);
            }
            Operator::BrIf { .. } => self.branches = self.branches.saturating_add(1),
            Operator::End if self.open.pop() == Some(true) => {
                self.loops_deep = self.loops_deep.saturating_sub(1);
            }
            _ => {}
        }
    }
}
