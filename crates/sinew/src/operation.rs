//! What may be asked of the engine; the words are the launcher's, who answers.

pub use sinew_node::operation::*;
