//! The one pickle machine: a closed list of opcodes and globals in, an inert tree out.
//!
//! It never calls, imports or constructs anything: `REDUCE` records that a call was wanted. The tree is an
//! arena, so neither building, walking nor dropping it recurses, and strings are ranges of the input, so no
//! opcode copies more than a few words. Whoever reads the tree (`storage`, `crate::tokenizer_pickle`) asks for
//! one shape at a fixed depth and treats everything else as an error.
//!
//! Source: CPython `Lib/pickletools.py` for the opcodes; `torch/_weights_only_unpickler.py` for the idea.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, PickleFault};
use crate::limits::LIMITS;
use crate::reader::{Reader, widen};
use crate::tensor::DType;

/// Which globals may occur.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PickleDialect {
    Checkpoint,
    Tokenizer,
}

/// Every global there is. Nothing else can be named by a pickle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Global {
    OrderedDict,
    RebuildTensorV2,
    RebuildTensorV3,
    RebuildParameter,
    RebuildParameterWithState,
    Parameter,
    Size,
    TensorStorage(DType),
    UntypedStorage,
    DType(DType),
    Encoding,
    CodecsEncode,
}

impl Global {
    fn find(dialect: PickleDialect, module: &[u8], name: &[u8]) -> Option<Global> {
        match (dialect, module, name) {
            (_, b"collections", b"OrderedDict") => Some(Global::OrderedDict),
            (PickleDialect::Tokenizer, b"tiktoken.core" | b"tiktoken", b"Encoding") => Some(Global::Encoding),
            (PickleDialect::Tokenizer, b"_codecs", b"encode") => Some(Global::CodecsEncode),
            (PickleDialect::Checkpoint, b"torch._utils", name) => match name {
                b"_rebuild_tensor_v2" => Some(Global::RebuildTensorV2),
                b"_rebuild_tensor_v3" => Some(Global::RebuildTensorV3),
                b"_rebuild_parameter" => Some(Global::RebuildParameter),
                b"_rebuild_parameter_with_state" => Some(Global::RebuildParameterWithState),
                _ => None,
            },
            (PickleDialect::Checkpoint, b"torch.nn.parameter", b"Parameter") => Some(Global::Parameter),
            (PickleDialect::Checkpoint, b"torch.storage" | b"torch", b"UntypedStorage") => {
                Some(Global::UntypedStorage)
            }
            (PickleDialect::Checkpoint, b"torch", b"Size") => Some(Global::Size),
            (PickleDialect::Checkpoint, b"torch" | b"torch.cuda", name) => torch_type(name),
            _ => None,
        }
    }
}

/// Storage classes and element types of the module `torch`.
fn torch_type(name: &[u8]) -> Option<Global> {
    let (storage, dtype) = match name {
        b"DoubleStorage" => (true, DType::F64),
        b"FloatStorage" => (true, DType::F32),
        b"HalfStorage" => (true, DType::F16),
        b"BFloat16Storage" => (true, DType::BF16),
        b"LongStorage" => (true, DType::I64),
        b"IntStorage" => (true, DType::I32),
        b"ShortStorage" => (true, DType::I16),
        b"CharStorage" => (true, DType::I8),
        b"ByteStorage" => (true, DType::U8),
        b"BoolStorage" => (true, DType::Bool),
        b"float64" => (false, DType::F64),
        b"float32" => (false, DType::F32),
        b"float16" => (false, DType::F16),
        b"bfloat16" => (false, DType::BF16),
        b"int64" => (false, DType::I64),
        b"int32" => (false, DType::I32),
        b"int16" => (false, DType::I16),
        b"int8" => (false, DType::I8),
        b"uint8" => (false, DType::U8),
        b"bool" => (false, DType::Bool),
        _ => return None,
    };
    Some(if storage { Global::TensorStorage(dtype) } else { Global::DType(dtype) })
}

/// A range of the input of one tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TextSpan {
    start: u32,
    len: u32,
}

/// The place of a compound value in its tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeId(u32);

/// A value; 16 bytes, so that copying one out of the memo costs nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PickleValue {
    None,
    Bool(bool),
    Integer(i64),
    /// Its little-endian bytes; only for integers that do not fit.
    LongInteger(TextSpan),
    Float,
    /// Not yet known to be UTF-8.
    Text(TextSpan),
    Bytes(TextSpan),
    /// Text of which each character is one byte: how protocol 2 writes bytes.
    Latin1(TextSpan),
    Global(Global),
    Node(NodeId),
}

#[derive(Debug)]
enum Node {
    Tuple(Vec<PickleValue>),
    List(Vec<PickleValue>),
    Dictionary(Vec<(PickleValue, PickleValue)>),
    /// A call that was wanted, and the tuple of its arguments (a copy of it could be had for three bytes).
    Call(Global, PickleValue),
    /// An object that was wanted, and the state it was to get.
    Object(Global, Option<PickleValue>),
    /// A persistent id, which torch uses for storages.
    Persistent(PickleValue),
}

/// What a pickle describes. Values refer to each other by number, possibly in circles.
#[derive(Debug)]
pub(crate) struct PickleTree<'a> {
    input: &'a [u8],
    nodes: Vec<Node>,
    root: PickleValue,
}

impl<'a> PickleTree<'a> {
    /// What the pickle leaves on its stack.
    pub(crate) fn root(&self) -> PickleValue {
        self.root
    }

    /// A text, or none if the value is none; an error if it is not UTF-8.
    pub(crate) fn text(&self, value: PickleValue) -> Result<Option<&'a str>, Error> {
        match value {
            PickleValue::Text(span) => {
                std::str::from_utf8(self.span(span)).map(Some).map_err(|_| PickleFault::Text.into())
            }
            _ => Ok(None),
        }
    }

    pub(crate) fn is_text(&self, value: PickleValue, expected: &str) -> bool {
        matches!(value, PickleValue::Text(span) if self.span(span) == expected.as_bytes())
    }

    /// Bytes, however the protocol writes them.
    pub(crate) fn bytes(&self, value: PickleValue) -> Option<Cow<'a, [u8]>> {
        match value {
            PickleValue::Bytes(span) => Some(Cow::Borrowed(self.span(span))),
            PickleValue::Latin1(span) => {
                let text = std::str::from_utf8(self.span(span)).ok()?;
                let bytes: Option<Vec<u8>> = text.chars().map(|c| u8::try_from(c).ok()).collect();
                bytes.map(Cow::Owned)
            }
            _ => None,
        }
    }

    pub(crate) fn long_integer(&self, value: PickleValue) -> Option<&'a [u8]> {
        match value {
            PickleValue::LongInteger(span) => Some(self.span(span)),
            _ => None,
        }
    }

    pub(crate) fn tuple(&self, value: PickleValue) -> Option<&[PickleValue]> {
        match self.node(value)? {
            Node::Tuple(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn list(&self, value: PickleValue) -> Option<&[PickleValue]> {
        match self.node(value)? {
            Node::List(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn dictionary(&self, value: PickleValue) -> Option<&[(PickleValue, PickleValue)]> {
        match self.node(value)? {
            Node::Dictionary(pairs) => Some(pairs),
            _ => None,
        }
    }

    pub(crate) fn call(&self, value: PickleValue) -> Option<(Global, &[PickleValue])> {
        match self.node(value)? {
            Node::Call(global, arguments) => Some((*global, self.tuple(*arguments)?)),
            _ => None,
        }
    }

    /// The state that an object of this class was to get.
    pub(crate) fn object(&self, value: PickleValue, class: Global) -> Option<PickleValue> {
        match self.node(value)? {
            Node::Object(global, state) if *global == class => *state,
            _ => None,
        }
    }

    pub(crate) fn persistent(&self, value: PickleValue) -> Option<PickleValue> {
        match self.node(value)? {
            Node::Persistent(id) => Some(*id),
            _ => None,
        }
    }

    /// All persistent ids, in the order of the file.
    pub(crate) fn persistent_ids(&self) -> impl Iterator<Item = PickleValue> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Persistent(id) => Some(*id),
            _ => None,
        })
    }

    fn node(&self, value: PickleValue) -> Option<&Node> {
        match value {
            PickleValue::Node(NodeId(id)) => self.nodes.get(usize::try_from(id).ok()?),
            _ => None,
        }
    }

    fn span(&self, span: TextSpan) -> &'a [u8] {
        let range = usize::try_from(span.start).ok().zip(usize::try_from(span.len).ok());
        range.and_then(|(start, len)| self.input.get(start..)?.get(..len)).unwrap_or_default()
    }
}

/// Parses one pickle; `reader` is left behind its `STOP`.
pub(crate) fn parse<'a>(reader: &mut Reader<'a>, dialect: PickleDialect) -> Result<PickleTree<'a>, Error> {
    let input = reader.peek();
    let tree = PickleTree { input, nodes: Vec::new(), root: PickleValue::None };
    let length = input.len();
    let mut machine = PickleMachine {
        reader: reader.clone(),
        length,
        dialect,
        tree,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
    };
    let result = machine.run();
    *reader = machine.reader;
    result?;
    Ok(machine.tree)
}

struct PickleMachine<'a> {
    reader: Reader<'a>,
    length: usize,
    dialect: PickleDialect,
    tree: PickleTree<'a>,
    stack: Vec<PickleValue>,
    /// Heights of the stack at each open mark.
    marks: Vec<usize>,
    memo: Vec<Option<PickleValue>>,
}

impl PickleMachine<'_> {
    fn run(&mut self) -> Result<(), Error> {
        let at = self.reader.offset();
        match self.reader.take(2)? {
            [0x80, 2..=5] => {}
            _ => return Err(Error::from(PickleFault::Protocol).at(at)),
        }
        loop {
            let at = self.reader.offset();
            let code = self.reader.u8()?;
            if code == b'.' {
                self.tree.root = self.pop().map_err(|error| error.at(at))?;
                return Ok(());
            }
            self.step(code).map_err(|error| error.at(at))?;
        }
    }

    /// One opcode but `STOP`, by family.
    fn step(&mut self, code: u8) -> Result<(), Error> {
        match code {
            0x95 => self.reader.take(8).map(|_| ()), // FRAME: only a hint for buffering
            b'(' => self.mark(),
            b'N' | 0x88 | 0x89 | b'J' | b'K' | b'M' | 0x8a | b'G' => self.number(code),
            b'X' | 0x8c | 0x8d | b'C' | b'B' | 0x8e | b'U' | b'T' => self.string(code),
            b')' | 0x85 | 0x86 | 0x87 | b't' | b']' | b'}' => self.container(code),
            b'a' | b'e' | b's' | b'u' => self.fill(code),
            b'h' | b'j' | b'q' | b'r' | 0x94 => self.remember(code),
            b'c' => {
                let module = self.reader.line(LIMITS.pickle_text_bytes)?;
                let name = self.reader.line(LIMITS.pickle_text_bytes)?;
                self.global(module, name)
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (PickleValue::Text(module), PickleValue::Text(name)) = (module, name) else {
                    return Err(PickleFault::Operand.into());
                };
                self.global(self.tree.span(module), self.tree.span(name))
            }
            b'R' => self.reduce(),
            0x81 => self.new_object(),
            b'b' => self.build(),
            b'Q' => {
                let id = self.pop()?;
                self.push_node(Node::Persistent(id))
            }
            other => Err(PickleFault::Opcode(other).into()),
        }
    }

    fn number(&mut self, code: u8) -> Result<(), Error> {
        let value = match code {
            b'N' => PickleValue::None,
            0x88 => PickleValue::Bool(true),
            0x89 => PickleValue::Bool(false),
            b'J' => PickleValue::Integer(i64::from(self.reader.i32()?)),
            b'K' => PickleValue::Integer(i64::from(self.reader.u8()?)),
            b'M' => PickleValue::Integer(i64::from(self.reader.u16()?)),
            b'G' => {
                // Only entries that nobody reads are floats.
                self.reader.f64_big_endian()?;
                PickleValue::Float
            }
            _ => {
                let count = self.reader.u8()?;
                let span = self.take_span(u64::from(count))?;
                short_integer(self.tree.span(span))
                    .map_or(PickleValue::LongInteger(span), PickleValue::Integer)
            }
        };
        self.push(value)
    }

    fn string(&mut self, code: u8) -> Result<(), Error> {
        let count = match code {
            0x8c | b'C' | b'U' => u64::from(self.reader.u8()?),
            b'X' | b'B' | b'T' => u64::from(self.reader.u32()?),
            _ => self.reader.u64()?,
        };
        let limit = widen(LIMITS.pickle_text_bytes);
        if count > limit {
            return Err(ErrorKind::too_large("pickle_text_bytes", count, limit).into());
        }
        let span = self.take_span(count)?;
        self.push(match code {
            b'C' | b'B' | 0x8e => PickleValue::Bytes(span),
            _ => PickleValue::Text(span),
        })
    }

    fn container(&mut self, code: u8) -> Result<(), Error> {
        let node = match code {
            b']' => Node::List(Vec::new()),
            b'}' => Node::Dictionary(Vec::new()),
            b')' => Node::Tuple(Vec::new()),
            b't' => Node::Tuple(self.pop_mark()?),
            _ => Node::Tuple(self.pop_last(usize::from(code.saturating_sub(0x84)))?),
        };
        self.push_node(node)
    }

    fn fill(&mut self, code: u8) -> Result<(), Error> {
        let items = match code {
            b'a' => self.pop_last(1)?,
            b's' => self.pop_last(2)?,
            _ => self.pop_mark()?,
        };
        let target = *self.stack.last().ok_or(PickleFault::StackEmpty)?;
        match (code, self.node_mut(target)) {
            (b'a' | b'e', Some(Node::List(list))) => list.extend(items),
            (b's' | b'u', Some(Node::Dictionary(pairs))) => {
                let (chunks, rest) = items.as_chunks::<2>();
                if !rest.is_empty() {
                    return Err(PickleFault::Operand.into());
                }
                pairs.extend(chunks.iter().map(|[key, value]| (*key, *value)));
            }
            _ => return Err(PickleFault::Operand.into()),
        }
        Ok(())
    }

    fn remember(&mut self, code: u8) -> Result<(), Error> {
        let index = match code {
            b'h' | b'q' => u32::from(self.reader.u8()?),
            b'j' | b'r' => self.reader.u32()?,
            _ => u32::try_from(self.memo.len()).map_err(|_| PickleFault::Memo(u32::MAX))?,
        };
        let place = usize::try_from(index).map_err(|_| PickleFault::Memo(index))?;
        if matches!(code, b'h' | b'j') {
            let value = self.memo.get(place).copied().flatten().ok_or(PickleFault::Memo(index))?;
            return self.push(value);
        }
        // A pickler counts what it remembers, so an index beyond its own offset was made up; without this
        // check, five bytes could ask for a memo of gigabytes.
        let consumed = self.length.saturating_sub(self.reader.remaining());
        if place > consumed {
            return Err(PickleFault::Memo(index).into());
        }
        if place >= LIMITS.pickle_memo {
            return Err(
                ErrorKind::too_large("pickle_memo", u64::from(index), widen(LIMITS.pickle_memo)).into()
            );
        }
        let value = *self.stack.last().ok_or(PickleFault::StackEmpty)?;
        if place >= self.memo.len() {
            self.memo.resize(place.saturating_add(1), None);
        }
        if let Some(slot) = self.memo.get_mut(place) {
            *slot = Some(value);
        }
        Ok(())
    }

    fn global(&mut self, module: &[u8], name: &[u8]) -> Result<(), Error> {
        let Some(global) = Global::find(self.dialect, module, name) else {
            // The names go into a message, so they must be short and printable.
            let shown = |bytes: &[u8]| {
                bytes.get(..bytes.len().min(64)).unwrap_or_default().escape_ascii().to_string()
            };
            return Err(PickleFault::Global(format!("{}.{}", shown(module), shown(name)).into()).into());
        };
        self.push(PickleValue::Global(global))
    }

    fn reduce(&mut self) -> Result<(), Error> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let PickleValue::Global(global) = callee else {
            return Err(PickleFault::Operand.into());
        };
        match (global, self.tree.tuple(arguments).ok_or(PickleFault::Operand)?) {
            (Global::OrderedDict, []) => self.push_node(Node::Dictionary(Vec::new())),
            (Global::Size, [sizes @ PickleValue::Node(_)]) => self.push(*sizes),
            (Global::CodecsEncode, [PickleValue::Text(text), encoding])
                if self.tree.is_text(*encoding, "latin1") =>
            {
                self.push(PickleValue::Latin1(*text))
            }
            (
                Global::RebuildTensorV2
                | Global::RebuildTensorV3
                | Global::RebuildParameter
                | Global::RebuildParameterWithState
                | Global::Parameter,
                _,
            ) => self.push_node(Node::Call(global, arguments)),
            _ => Err(PickleFault::Operand.into()),
        }
    }

    fn new_object(&mut self) -> Result<(), Error> {
        let (arguments, class) = (self.pop()?, self.pop()?);
        if !self.tree.tuple(arguments).is_some_and(<[PickleValue]>::is_empty) {
            return Err(PickleFault::Operand.into());
        }
        match class {
            PickleValue::Global(Global::OrderedDict) => self.push_node(Node::Dictionary(Vec::new())),
            PickleValue::Global(Global::Encoding) => self.push_node(Node::Object(Global::Encoding, None)),
            _ => Err(PickleFault::Operand.into()),
        }
    }

    /// The state of a dictionary is `_metadata`, which describes modules and is not needed.
    fn build(&mut self) -> Result<(), Error> {
        let state = self.pop()?;
        let target = *self.stack.last().ok_or(PickleFault::StackEmpty)?;
        match self.node_mut(target) {
            Some(Node::Dictionary(_)) => Ok(()),
            Some(Node::Object(_, slot @ None)) => {
                *slot = Some(state);
                Ok(())
            }
            _ => Err(PickleFault::Operand.into()),
        }
    }

    fn mark(&mut self) -> Result<(), Error> {
        if self.marks.len() >= LIMITS.pickle_marks {
            let limit = widen(LIMITS.pickle_marks);
            return Err(ErrorKind::too_large("pickle_marks", limit.saturating_add(1), limit).into());
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn push(&mut self, value: PickleValue) -> Result<(), Error> {
        if self.stack.len() >= LIMITS.pickle_stack {
            let limit = widen(LIMITS.pickle_stack);
            return Err(ErrorKind::too_large("pickle_stack", limit.saturating_add(1), limit).into());
        }
        self.stack.push(value);
        Ok(())
    }

    fn push_node(&mut self, node: Node) -> Result<(), Error> {
        if self.tree.nodes.len() >= LIMITS.pickle_nodes {
            let limit = widen(LIMITS.pickle_nodes);
            return Err(ErrorKind::too_large("pickle_nodes", limit.saturating_add(1), limit).into());
        }
        let id = u32::try_from(self.tree.nodes.len()).map_err(|_| PickleFault::Operand)?;
        self.tree.nodes.push(node);
        self.push(PickleValue::Node(NodeId(id)))
    }

    fn pop(&mut self) -> Result<PickleValue, Error> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(PickleFault::StackEmpty.into());
        }
        self.stack.pop().ok_or_else(|| PickleFault::StackEmpty.into())
    }

    /// The last `count` values, none of them below the last mark.
    fn pop_last(&mut self, count: usize) -> Result<Vec<PickleValue>, Error> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let start = self.stack.len().checked_sub(count).filter(|start| *start >= floor);
        Ok(self.stack.drain(start.ok_or(PickleFault::StackEmpty)?..).collect())
    }

    /// The values above the last mark, which is removed.
    fn pop_mark(&mut self) -> Result<Vec<PickleValue>, Error> {
        let mark = self.marks.pop().ok_or(PickleFault::NoMark)?;
        // Not `split_off`, which may hand out the capacity of the whole stack.
        Ok(self.stack.drain(mark..).collect())
    }

    fn node_mut(&mut self, value: PickleValue) -> Option<&mut Node> {
        match value {
            PickleValue::Node(NodeId(id)) => self.tree.nodes.get_mut(usize::try_from(id).ok()?),
            _ => None,
        }
    }

    fn take_span(&mut self, count: u64) -> Result<TextSpan, Error> {
        let start = self.length.saturating_sub(self.reader.remaining());
        let taken = self.reader.take_long(count)?;
        let span = u32::try_from(start).ok().zip(u32::try_from(taken.len()).ok());
        let (start, len) = span.ok_or(PickleFault::Operand)?;
        Ok(TextSpan { start, len })
    }
}

/// A two's complement little-endian integer of at most eight bytes.
fn short_integer(bytes: &[u8]) -> Option<i64> {
    let fill = if bytes.last().is_some_and(|top| top & 0x80 != 0) { 0xff } else { 0 };
    let mut wide = [fill; 8];
    wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(i64::from_le_bytes(wide))
}
