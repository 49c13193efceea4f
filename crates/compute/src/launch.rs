//! Where the processes of tasks come from. A node starts none of them itself:
//! it starts **launchers**, small children of its own program that first shut
//! themselves in, for good, and then start one task after the other. What a
//! launcher starts is shut in as it is, and is its descendant however it
//! detaches itself, so that at the end of a task, or of the node, nothing is
//! left.
//!
//! A launcher with its folder is a **cell**. A cell runs one task, or one
//! interpreter, at a time. Which way it is shut in depends on what the node may:
//!
//! | the node runs as | a cell |
//! |---|---|
//! | root | becomes a user of its own (or the one that the configuration names) |
//! | anybody else | cannot reach the data directory any more: Landlock |
//! | where neither works | is not shut in, which the node must be told to allow |
//!
//! | file | what |
//! |---|---|
//! | [`wire`] | what node and launcher tell each other |
//! | [`place`] | folders and users of cells, each taken by one at a time |
//! | [`confine`] | how a launcher shuts itself in |
//! | [`fence`] | the part of it that is Landlock |
//! | [`launcher`] | the launcher's process |
//! | [`group`] | what a task and all that it starts may take, by control groups |
//! | [`directory`] | the directory of a task |
//! | [`find`] | which file a program's name means |
//! | [`passage`] | ways to a Python in a folder that is closed to the tasks' users |
//! | [`offspring`] | the end of everything that a task has started |

pub mod confine;
mod directory;
mod fence;
mod find;
pub mod group;
pub mod launcher;
mod offspring;
pub mod passage;
pub mod place;
pub mod wire;

pub(crate) use fence::Stamp;
