//! What do the bytes say? The protobuf wire format, read field by field and written back: what is not understood is copied
//! byte for byte, so that a rewrite cannot lose a field, known or unknown.

/// Why bytes are not an ONNX model this program can work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OnnxError(pub String);

pub(super) fn error<T>(text: impl Into<String>) -> Result<T, OnnxError> {
    Err(OnnxError(text.into()))
}

/// Upper bound on the entries of one repeated field; far above real graphs, it stops a forged file from asking for
/// many times its own size in memory.
const MOST_ENTRIES: usize = 1 << 20;

/// Most axes of a tensor that are read.
pub(super) const MOST_AXES: usize = 64;

/// One protobuf field as found: number, value and all its bytes (tag included).
#[derive(Clone, Copy, Debug)]
pub(super) struct Field<'a> {
    pub(super) number: u32,
    pub(super) value: Wire<'a>,
    pub(super) raw: &'a [u8],
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// 32- or 64-bit fixed value; no field read here has this type.
    Fixed,
}

/// Iterates over the fields of one message.
pub(super) struct FieldReader<'a> {
    message: &'static str,
    bytes: &'a [u8],
    pub(super) at: usize,
}

impl<'a> FieldReader<'a> {
    pub(super) fn new(message: &'static str, bytes: &'a [u8]) -> Self {
        FieldReader { message, bytes, at: 0 }
    }

    pub(super) fn varint(&mut self) -> Result<u64, OnnxError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let Some(&byte) = self.bytes.get(self.at) else {
                return error(format!("{} ends in the middle of a number", self.message));
            };
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        error(format!("{} holds a number of more than 64 bits", self.message))
    }

    fn take(&mut self, count: u64, number: u32) -> Result<&'a [u8], OnnxError> {
        let left = self.bytes.len() - self.at;
        match usize::try_from(count) {
            Ok(count) if count <= left => {
                let slice = &self.bytes[self.at..self.at + count];
                self.at += count;
                Ok(slice)
            }
            _ => error(format!("field {number} of {} needs {count} bytes, {left} are left", self.message)),
        }
    }

    fn read(&mut self) -> Result<Field<'a>, OnnxError> {
        let start = self.at;
        let tag = self.varint()?;
        let number = match u32::try_from(tag >> 3) {
            Ok(number) if number != 0 && number < 1 << 29 => number,
            _ => return error(format!("{} holds an impossible field number", self.message)),
        };
        let value = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => {
                self.take(8, number)?;
                Wire::Fixed
            }
            2 => {
                let length = self.varint()?;
                Wire::Bytes(self.take(length, number)?)
            }
            5 => {
                self.take(4, number)?;
                Wire::Fixed
            }
            other => return error(format!("field {number} of {} has unknown wire type {other}", self.message)),
        };
        Ok(Field { number, value, raw: &self.bytes[start..self.at] })
    }
}

impl<'a> Iterator for FieldReader<'a> {
    type Item = Result<Field<'a>, OnnxError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.at = self.bytes.len(); // a broken message has no further fields
        }
        Some(field)
    }
}

impl<'a> Field<'a> {
    pub(super) fn bytes(&self, what: &str) -> Result<&'a [u8], OnnxError> {
        match self.value {
            Wire::Bytes(bytes) => Ok(bytes),
            _ => error(format!("{what} is a number where text or a message is expected")),
        }
    }

    pub(super) fn text(&self, what: &str) -> Result<&'a str, OnnxError> {
        std::str::from_utf8(self.bytes(what)?).or_else(|_| error(format!("{what} is not UTF-8 text")))
    }

    pub(super) fn integer(&self, what: &str) -> Result<i64, OnnxError> {
        match self.value {
            Wire::Varint(value) => Ok(value as i64), // protobuf int64: two's complement in 64 bits
            _ => error(format!("{what} is not a number")),
        }
    }

    /// Integers of a repeated field, packed or not.
    pub(super) fn integers(&self, what: &'static str, into: &mut Vec<i64>) -> Result<(), OnnxError> {
        match self.value {
            Wire::Varint(value) => into.push(value as i64),
            Wire::Bytes(bytes) => {
                let mut packed = FieldReader::new(what, bytes);
                while packed.at < bytes.len() && into.len() <= MOST_AXES {
                    into.push(packed.varint()? as i64);
                }
            }
            Wire::Fixed => return error(format!("{what} is not a number")),
        }
        if into.len() > MOST_AXES { error(format!("{what} has more than {MOST_AXES} entries")) } else { Ok(()) }
    }
}

pub(super) fn push<T>(list: &mut Vec<T>, item: T, what: &str) -> Result<(), OnnxError> {
    if list.len() >= MOST_ENTRIES {
        return error(format!("more than {MOST_ENTRIES} entries of {what}"));
    }
    list.push(item);
    Ok(())
}

pub(super) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_bytes(out: &mut Vec<u8>, number: u32, bytes: &[u8]) {
    put_varint(out, u64::from(number) << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn put_integer(out: &mut Vec<u8>, number: u32, value: i64) {
    put_varint(out, u64::from(number) << 3);
    put_varint(out, value as u64);
}

pub(super) fn put_float(out: &mut Vec<u8>, number: u32, value: f32) {
    put_varint(out, u64::from(number) << 3 | 5);
    out.extend_from_slice(&value.to_le_bytes());
}
