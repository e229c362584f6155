//! As much of Python's pickle as a state dictionary needs, as data: nothing is ever called.
//!
//! The machine keeps its objects in one list and passes indices, so that the memo cannot multiply them; each step takes
//! at least one byte of a bounded input, and the list is capped. A global other than those that rebuild tensors is
//! refused by its name when something would call it.

use std::collections::BTreeMap;

use crate::convert::limits::{MAX_DIMS, MAX_NAME_BYTES, MAX_PICKLE_OBJECTS, MAX_TENSORS};

/// A tensor that the pickle describes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pickled {
    /// `FloatStorage` and so on.
    pub(super) storage_type: String,
    /// Name of the storage in the archive.
    pub(super) key: String,
    /// First value in the storage.
    pub(super) offset: usize,
    /// Dimensions.
    pub(super) dims: Vec<usize>,
    /// Distance between neighbours of each dimension, values.
    pub(super) strides: Vec<usize>,
}

/// Index of an object.
type At = usize;

#[derive(Debug)]
enum Object {
    None,
    Int(i64),
    /// Booleans and floats: legal, never looked at.
    Scalar,
    Text(String),
    Global(String, String),
    Tuple(Vec<At>),
    List(Vec<At>),
    Dict(Vec<(At, At)>),
    /// What a persistent id names: its tuple.
    Storage(At),
    Tensor(Pickled),
}

/// The tensors of a pickled state dictionary, in its order.
pub(super) fn tensors(bytes: &[u8]) -> Result<Vec<(String, Pickled)>, String> {
    let mut machine =
        Machine { bytes, at: 0, objects: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: BTreeMap::new() };
    let begun = |m: &Machine<'_>, e: String| format!("byte {}: {e}", m.at);
    loop {
        match machine.step() {
            Ok(true) => break,
            Ok(false) => {}
            Err(e) => return Err(begun(&machine, e)),
        }
    }
    let top = machine.pop()?;
    let Some(Object::Dict(pairs)) = machine.objects.get(top) else {
        return Err("not a dictionary of tensors".into());
    };
    if pairs.len() > MAX_TENSORS {
        return Err(format!("{} tensors, at most {MAX_TENSORS}", pairs.len()));
    }
    let mut all = Vec::with_capacity(pairs.len());
    for &(key, value) in pairs {
        let name = machine.text_of(key).map_err(|e| format!("a key: {e}"))?.to_owned();
        match machine.objects.get(value) {
            Some(Object::Tensor(t)) => all.push((name, t.clone())),
            _ => return Err(format!("key {name}: no tensor")),
        }
    }
    Ok(all)
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    objects: Vec<Object>,
    stack: Vec<At>,
    /// Heights of the stack at open marks.
    marks: Vec<usize>,
    memo: BTreeMap<u32, At>,
}

impl Machine<'_> {
    fn take(&mut self, n: usize) -> Result<&[u8], String> {
        let end = self.at.checked_add(n).filter(|&e| e <= self.bytes.len()).ok_or("the pickle ends early")?;
        let taken = self.bytes.get(self.at..end).unwrap_or_default();
        self.at = end;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.try_into().map_err(|_| "the pickle ends early".to_owned())
    }

    fn text(&mut self, n: usize) -> Result<String, String> {
        let bytes = self.take(n)?.to_vec();
        String::from_utf8(bytes).map_err(|_| "text that is not UTF-8".into())
    }

    fn line(&mut self) -> Result<String, String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let n = rest.iter().take(256).position(|&b| b == b'\n').ok_or("a global's name without end")?;
        let line = self.text(n)?;
        self.at += 1;
        Ok(line)
    }

    fn push(&mut self, object: Object) -> Result<(), String> {
        if self.objects.len() >= MAX_PICKLE_OBJECTS {
            return Err(format!("more than {MAX_PICKLE_OBJECTS} objects"));
        }
        self.stack.push(self.objects.len());
        self.objects.push(object);
        Ok(())
    }

    fn pop(&mut self) -> Result<At, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err("takes from an empty stack".into());
        }
        self.stack.pop().ok_or_else(|| "takes from an empty stack".into())
    }

    /// Everything above the last mark.
    fn marked(&mut self) -> Result<Vec<At>, String> {
        let mark = self.marks.pop().ok_or("no mark")?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn last(&mut self) -> Result<&mut Object, String> {
        let top = self.stack.last().copied().ok_or("looks at an empty stack")?;
        self.objects.get_mut(top).ok_or_else(|| "looks at nothing".into())
    }

    fn tuple(&mut self, n: usize) -> Result<(), String> {
        let mut items = (0..n).map(|_| self.pop()).collect::<Result<Vec<_>, _>>()?;
        items.reverse();
        self.push(Object::Tuple(items))
    }

    fn put(&mut self, slot: u32) -> Result<(), String> {
        let top = self.stack.last().copied().ok_or("remembers from an empty stack")?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn get(&mut self, slot: u32) -> Result<(), String> {
        let at = self.memo.get(&slot).copied().ok_or_else(|| format!("memo {slot} is empty"))?;
        // The stack is no longer than the input: each step that grows it took a byte.
        self.stack.push(at);
        Ok(())
    }

    fn set(&mut self, items: &[At]) -> Result<(), String> {
        let Object::Dict(pairs) = self.last()? else { return Err("sets items of no dictionary".into()) };
        let (items, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("an odd number of keys and values".into());
        }
        pairs.extend(items.iter().map(|[k, v]| (*k, *v)));
        Ok(())
    }

    fn append(&mut self, items: &[At]) -> Result<(), String> {
        let Object::List(list) = self.last()? else { return Err("appends to no list".into()) };
        list.extend(items);
        Ok(())
    }

    /// One operation; true at the end. Operation codes: CPython's `Lib/pickletools.py`.
    fn step(&mut self) -> Result<bool, String> {
        let [op] = self.number()?;
        match op {
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'.' => return Ok(true),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'N' => self.push(Object::None)?,
            0x88 | 0x89 => self.push(Object::Scalar)?,
            b'G' => {
                self.take(8)?;
                self.push(Object::Scalar)?;
            }
            b'K' | b'M' | b'J' | 0x8a => self.integer(op)?,
            b'X' => {
                let n = u32::from_le_bytes(self.number()?) as usize;
                let text = self.text(n)?;
                self.push(Object::Text(text))?;
            }
            0x8c => {
                let [n] = self.number()?;
                let text = self.text(usize::from(n))?;
                self.push(Object::Text(text))?;
            }
            b'c' | 0x93 => self.global(op)?,
            b')' => self.push(Object::Tuple(Vec::new()))?,
            0x85..=0x87 => self.tuple(usize::from(op - 0x84))?,
            b't' => {
                let items = self.marked()?;
                self.push(Object::Tuple(items))?;
            }
            b']' => self.push(Object::List(Vec::new()))?,
            b'}' => self.push(Object::Dict(Vec::new()))?,
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let items = self.marked()?;
                self.append(&items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(&[key, value])?;
            }
            b'u' => {
                let items = self.marked()?;
                self.set(&items)?;
            }
            b'q' | b'r' | b'h' | b'j' | 0x94 => self.remember(op)?,
            b'Q' => {
                let id = self.pop()?;
                self.push(Object::Storage(id))?;
            }
            // A state for an object that is there already: attributes of the dictionary, nothing of ours.
            b'b' => drop(self.pop()?),
            b'R' | 0x81 => {
                let (args, callable) = (self.pop()?, self.pop()?);
                let made = self.rebuild(callable, args)?;
                match made {
                    Made::New(object) => self.push(object)?,
                    Made::Old(at) => self.stack.push(at),
                }
            }
            other => return Err(format!("operation {other:#04x}, which no state dictionary needs")),
        }
        Ok(false)
    }

    fn integer(&mut self, op: u8) -> Result<(), String> {
        let value = match op {
            b'K' => i64::from(u8::from_le_bytes(self.number()?)),
            b'M' => i64::from(u16::from_le_bytes(self.number()?)),
            b'J' => i64::from(i32::from_le_bytes(self.number()?)),
            _ => {
                let [n] = self.number()?;
                let digits = self.take(usize::from(n))?;
                if digits.len() > 8 {
                    return Err(format!("an integer of {n} bytes"));
                }
                let sign = if digits.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
                let mut bytes = [sign; 8];
                bytes.iter_mut().zip(digits).for_each(|(b, d)| *b = *d);
                i64::from_le_bytes(bytes)
            }
        };
        self.push(Object::Int(value))
    }

    fn global(&mut self, op: u8) -> Result<(), String> {
        let (module, name) = if op == b'c' {
            (self.line()?, self.line()?)
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            (self.text_of(module)?.to_owned(), self.text_of(name)?.to_owned())
        };
        self.push(Object::Global(module, name))
    }

    fn remember(&mut self, op: u8) -> Result<(), String> {
        match op {
            b'q' => {
                let [slot] = self.number()?;
                self.put(u32::from(slot))
            }
            b'r' => {
                let slot = u32::from_le_bytes(self.number()?);
                self.put(slot)
            }
            b'h' => {
                let [slot] = self.number()?;
                self.get(u32::from(slot))
            }
            b'j' => {
                let slot = u32::from_le_bytes(self.number()?);
                self.get(slot)
            }
            _ => self.put(self.memo.len() as u32),
        }
    }

    /// A text that may be copied: a long one, used often through the memo, would multiply.
    fn text_of(&self, at: At) -> Result<&str, String> {
        match self.objects.get(at) {
            Some(Object::Text(text)) if text.len() <= MAX_NAME_BYTES => Ok(text),
            Some(Object::Text(text)) => Err(format!("a name of {} bytes", text.len())),
            _ => Err("not a text where one is needed".into()),
        }
    }

    fn items_of(&self, at: At) -> Result<&[At], String> {
        match self.objects.get(at) {
            Some(Object::Tuple(items)) => Ok(items),
            _ => Err("not a tuple where one is needed".into()),
        }
    }

    fn size_of(&self, at: At) -> Result<usize, String> {
        match self.objects.get(at) {
            Some(Object::Int(n)) => usize::try_from(*n).map_err(|_| format!("a size of {n}")),
            _ => Err("not a number where one is needed".into()),
        }
    }

    fn sizes_of(&self, at: At) -> Result<Vec<usize>, String> {
        let items = self.items_of(at)?;
        if items.len() > MAX_DIMS {
            return Err(format!("{} dimensions", items.len()));
        }
        items.iter().map(|&i| self.size_of(i)).collect()
    }

    /// What a call of `callable` would make, if it is one that a state dictionary needs.
    fn rebuild(&self, callable: At, args: At) -> Result<Made, String> {
        let Some(Object::Global(module, name)) = self.objects.get(callable) else {
            return Err("calls what is no global".into());
        };
        let args = self.items_of(args)?;
        let arg = |i: usize| args.get(i).copied().ok_or_else(|| format!("{module}.{name} with too few arguments"));
        match (module.as_str(), name.as_str()) {
            ("collections", "OrderedDict") => Ok(Made::New(Object::Dict(Vec::new()))),
            ("torch._utils", "_rebuild_tensor_v2") => self.tensor(args).map(Made::New),
            ("torch._utils", "_rebuild_parameter") => Ok(Made::Old(arg(0)?)),
            ("torch._tensor", "_rebuild_from_type_v2") => match self.objects.get(arg(0)?) {
                Some(Object::Global(m, n)) if (m.as_str(), n.as_str()) == ("torch._utils", "_rebuild_tensor_v2") => {
                    self.tensor(self.items_of(arg(2)?)?).map(Made::New)
                }
                _ => Err("rebuilds a tensor of an unknown kind".into()),
            },
            _ => Err(format!("calls {module}.{name}, which no state dictionary needs")),
        }
    }

    /// Arguments: storage, offset, size, stride and more; storage: the word, its class, its key, place, length.
    fn tensor(&self, args: &[At]) -> Result<Object, String> {
        let [storage, offset, dims, strides, ..] = args else {
            return Err("a tensor with too few arguments".into());
        };
        let Some(Object::Storage(id)) = self.objects.get(*storage) else {
            return Err("a tensor without storage".into());
        };
        let [_, class, key, ..] = self.items_of(*id)? else {
            return Err("a storage with too few arguments".into());
        };
        let Some(Object::Global(_, storage_type)) = self.objects.get(*class) else {
            return Err("a storage without a class".into());
        };
        Ok(Object::Tensor(Pickled {
            storage_type: storage_type.clone(),
            key: self.text_of(*key)?.to_owned(),
            offset: self.size_of(*offset)?,
            dims: self.sizes_of(*dims)?,
            strides: self.sizes_of(*strides)?,
        }))
    }
}

enum Made {
    New(Object),
    Old(At),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_called() {
        // cos\nsystem\n(X\x04\0\0\0truetR.
        let error = tensors(b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.").unwrap_err();
        assert!(error.contains("calls os.system"), "{error}");
    }

    #[test]
    fn broken_pickles_are_errors_with_their_byte() {
        for (bytes, says) in [
            (&b"\x80\x02"[..], "ends early"),
            (b"X\xff\xff\xff\xffa", "ends early"),
            (b"R.", "empty stack"),
            (b"(0", "empty stack"),
            (b"t.", "no mark"),
            (b"j\x05\0\0\0.", "memo 5 is empty"),
            (b"]K\x01K\x02s.", "no dictionary"),
            (b"}(K\x01u.", "odd number"),
            (b"\x8a\x09123456789.", "an integer of 9 bytes"),
            (b"i", "operation 0x69"),
            (b"K\x01.", "not a dictionary"),
            (b"}K\x01K\x02s.", "not a text"),
            (b"}X\x01\0\0\0aK\x02s.", "key a: no tensor"),
            (b"ctorch._utils\n_rebuild_tensor_v2\n)R.", "too few arguments"),
            (b"ctorch._utils\n_rebuild_parameter\n)R.", "too few arguments"),
        ] {
            let error = tensors(bytes).unwrap_err();
            assert!(error.contains(says), "{bytes:?}: {error}");
        }
    }

    #[test]
    fn the_memo_cannot_multiply_and_objects_are_capped() {
        // A tuple of two of itself, again and again: 2^1000 leaves as a tree, 1000 objects here.
        let mut bytes = b")q\x00".to_vec();
        (0..1000).for_each(|_| bytes.extend(b"h\x00h\x00\x86q\x00"));
        bytes.push(b'.');
        assert!(tensors(&bytes).unwrap_err().contains("not a dictionary"));
        let many = vec![b'N'; MAX_PICKLE_OBJECTS + 1];
        assert!(tensors(&many).unwrap_err().contains("more than"));
    }
}
