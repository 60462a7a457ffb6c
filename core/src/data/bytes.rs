//! Reading and writing the fields of our own formats: little endian, with lengths before what has
//! any length.
//!
//! ```text
//! u16, u32, u64, i64 │ 2, 4, 8, 8 bytes
//! bytes, text        │ length (u32) │ that many bytes
//! ```
//!
//! Invariant: a [`ByteReader`] takes nothing that is not there and reserves nothing by a length
//! that it was told, so whatever reads damaged bytes with it takes no more memory than they have.
//!
//! Not here: checksums and versions; each format has its own head.

/// Takes fields from the front of bytes.
#[derive(Debug, Clone)]
pub struct ByteReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Bytes that are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} at byte {at}")]
pub struct BadBytes {
    /// Where the field begins that cannot be believed.
    pub at: usize,
    /// What is wrong with it.
    pub what: &'static str,
}

impl<'a> ByteReader<'a> {
    /// Reads `bytes` from byte `at` on; places are counted from the first one.
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Where the next field begins.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() <= self.at
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// If there are not so many.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], BadBytes> {
        let end = self.at.checked_add(len);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or_else(|| self.bad("the end comes too early"))?;
        self.at += len;
        Ok(taken)
    }

    /// The next `N` bytes.
    ///
    /// # Errors
    /// If there are not so many.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], BadBytes> {
        Ok(self.take(N)?.try_into().expect("so many were taken"))
    }

    /// A number of two bytes.
    ///
    /// # Errors
    /// If the bytes end before it does.
    pub fn u16(&mut self) -> Result<u16, BadBytes> {
        self.array().map(u16::from_le_bytes)
    }

    /// A number of four bytes.
    ///
    /// # Errors
    /// If the bytes end before it does.
    pub fn u32(&mut self) -> Result<u32, BadBytes> {
        self.array().map(u32::from_le_bytes)
    }

    /// A number of eight bytes.
    ///
    /// # Errors
    /// If the bytes end before it does.
    pub fn u64(&mut self) -> Result<u64, BadBytes> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of eight bytes with a sign.
    ///
    /// # Errors
    /// If the bytes end before it does.
    pub fn i64(&mut self) -> Result<i64, BadBytes> {
        self.array().map(i64::from_le_bytes)
    }

    /// Bytes behind their length.
    ///
    /// # Errors
    /// If the bytes end before they do.
    pub fn bytes(&mut self) -> Result<&'a [u8], BadBytes> {
        let len = self.u32()?;
        self.take(len as usize)
    }

    /// A text behind its length.
    ///
    /// # Errors
    /// If the bytes end before it does, or it is no text.
    pub fn text(&mut self) -> Result<&'a str, BadBytes> {
        let at = self.at;
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| BadBytes { at, what: "a name is not UTF-8" })
    }

    /// What is said of the field that begins here.
    pub fn bad(&self, what: &'static str) -> BadBytes {
        BadBytes { at: self.at, what }
    }
}

/// Appends `bytes` behind their length.
///
/// # Panics
/// If there are 4 GiB or more of them.
pub fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_count(bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// Appends a number of things, as four bytes.
///
/// # Panics
/// If there are 2^32 or more.
pub fn put_count(count: usize, out: &mut Vec<u8>) {
    let count = u32::try_from(count).expect("no format of ours has 2^32 of anything");
    out.extend_from_slice(&count.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_read() {
        let mut out = 7_u16.to_le_bytes().to_vec();
        put_bytes(b"abc", &mut out);
        put_bytes("ä".as_bytes(), &mut out);
        put_count(3, &mut out);
        out.extend_from_slice(&(-5_i64).to_le_bytes());
        let mut reader = ByteReader::new(&out, 0);
        assert_eq!(reader.u16(), Ok(7));
        assert_eq!(reader.bytes(), Ok(&b"abc"[..]));
        assert_eq!(reader.text(), Ok("ä"));
        assert_eq!(reader.u32(), Ok(3));
        assert_eq!(reader.i64(), Ok(-5));
        assert!(reader.is_empty());
        assert_eq!(reader.u64(), Err(BadBytes { at: out.len(), what: "the end comes too early" }));
    }

    #[test]
    fn a_length_beyond_the_end_takes_nothing() {
        let mut reader = ByteReader::new(&[255, 255, 255, 255, 1], 0);
        assert_eq!(reader.bytes(), Err(BadBytes { at: 4, what: "the end comes too early" }));
        assert_eq!(ByteReader::new(b"\x01\0\0\0\xFF", 0).text().map_err(|bad| bad.at), Err(0));
    }
}
