//! Writes records as people read them: one line each, as their `Display` says.

use std::fmt;
use std::io::Write;
use std::marker::PhantomData;

use super::Encode;

/// Writes each record's `Display` on a line of its own.
pub struct TextEncoder<T> {
    bytes: Vec<u8>,
    record: PhantomData<fn(T)>,
}

impl<T> Default for TextEncoder<T> {
    fn default() -> Self {
        Self { bytes: Vec::new(), record: PhantomData }
    }
}

impl<T> Clone for TextEncoder<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl<T: fmt::Display + 'static> Encode for TextEncoder<T> {
    type Record = T;

    fn describe(&self) -> &'static str {
        "text"
    }

    fn extension(&self) -> &'static str {
        "txt"
    }

    fn encode(&mut self, record: &T) -> Result<(), String> {
        let len_before = self.bytes.len();
        writeln!(self.bytes, "{record}").map_err(|reason| {
            self.bytes.truncate(len_before);
            format!("its text could not be made: {reason}")
        })
    }

    fn encoded_bytes(&self) -> usize {
        self.bytes.len()
    }

    fn take(&mut self, spare: Vec<u8>) -> Vec<u8> {
        super::exchange(&mut self.bytes, spare)
    }
}
