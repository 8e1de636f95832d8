//! STUB
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity(String);
impl Identity {
    pub fn as_str(&self) -> &str {
        &self.0
    }
    pub fn stub(s: String) -> Self {
        Self(s)
    }
}
