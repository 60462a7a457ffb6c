//! What a check has to say: rule, place, message.

use std::fmt;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// Worth knowing; the check still passes.
    Warn,
    /// The check fails.
    Fail,
}

/// One place that breaks one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// How much it matters.
    pub(crate) severity: Severity,
    /// The rule's name, as `CONTRIBUTING.md` has it.
    pub(crate) rule: &'static str,
    /// The file, from the repository's root.
    pub(crate) path: String,
    /// The line, from 1; 0 means the file as a whole.
    pub(crate) line: usize,
    /// What is wrong and what to do instead.
    pub(crate) message: String,
}

impl Finding {
    /// A finding that fails the check.
    pub(crate) fn fail(
        rule: &'static str,
        path: &str,
        line: usize,
        message: impl Into<String>,
    ) -> Self {
        let (path, message) = (path.to_owned(), message.into());
        Self { severity: Severity::Fail, rule, path, line, message }
    }

    /// A finding that is only worth knowing.
    pub(crate) fn warn(
        rule: &'static str,
        path: &str,
        line: usize,
        message: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warn, ..Self::fail(rule, path, line, message) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warn => "warning",
            Severity::Fail => "error",
        };
        write!(f, "{}", self.path)?;
        if self.line != 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {severity}: {} [{}]", self.message, self.rule)
    }
}

/// Prints `findings`, warnings first, and says whether none of them fails the check named `check`.
pub(crate) fn report(check: &str, mut findings: Vec<Finding>) -> anyhow::Result<()> {
    findings.sort_by(|a, b| (a.severity, &a.path, a.line).cmp(&(b.severity, &b.path, b.line)));
    for finding in &findings {
        println!("{finding}");
    }
    let fail_count = findings.iter().filter(|finding| finding.severity == Severity::Fail).count();
    anyhow::ensure!(fail_count == 0, "{check}: {fail_count} errors");
    println!("{check}: clean, {} warnings", findings.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_like_a_compiler_message() {
        let finding = Finding::fail("line-length", "core/src/a.rs", 7, "101 columns, at most 100");
        let expected = "core/src/a.rs:7: error: 101 columns, at most 100 [line-length]";
        assert_eq!(finding.to_string(), expected);
        let finding = Finding::warn("readme", "README.md", 0, "is missing");
        assert_eq!(finding.to_string(), "README.md: warning: is missing [readme]");
    }

    #[test]
    fn only_errors_fail() {
        assert!(report("tidy", vec![Finding::warn("a", "b", 0, "c")]).is_ok());
        let error = report("tidy", vec![Finding::fail("a", "b", 0, "c")]).expect_err("one error");
        assert_eq!(error.to_string(), "tidy: 1 errors");
    }
}
