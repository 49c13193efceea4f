//! The binary of Trine: command line, configuration, wiring, admin socket,
//! local clusters, demo. It knows every room; no room knows it.
//!
//! Invariants: rooms meet only in [`node`]; what a command prints as data goes
//! to standard output, everything else to standard error; nothing here decides
//! anything that must be the same on two nodes.
//!
//! | file | what |
//! |---|---|
//! | [`cli`] | the grammar of the command line |
//! | [`config`] | a node's settings: file, flags, checks |
//! | [`failure`] | what went wrong and what to do, for people |
//! | [`seams`] | wall clock and random numbers of the machine |
//! | [`commands`] | from a parsed command line to what happens |
//! | [`start`] | one node of the product: runtimes, signals |
//! | [`node`] | all rooms wired together |
//! | [`accounts`] | users and tokens as administrators change them |
//! | [`login`] | the cluster's users behind the seam of the front doors |
//! | [`private`] | the data directory is its owner's alone |
//! | [`surfaces`] | how each network surface is encrypted and where it may listen |
//! | [`topology`], [`control`] | what the rooms are to the database and to the admin socket |
//! | [`local`], [`dev`] | clusters of child processes on this machine |
//! | [`demo`] | what Trine promises, shown on real input |
//! | [`db`], [`resp`] | key commands, and the small Redis client below them |
//! | [`talk`] | messages and files between nodes, from the command line |
//! | [`run`] | process tasks in the words of GNU parallel, and jobs |
//! | [`http`] | the admin API and other HTTP doors |
//! | [`nats`] | the NATS door of a node |
//! | [`nats_server`] | the same binary called as `nats-server` |
//! | [`admin`] | the admin socket: protocol, server, client, reports |

pub mod accounts;
pub mod admin;
pub mod cli;
pub mod commands;
pub mod config;
pub mod control;
pub mod db;
pub mod demo;
pub mod dev;
pub mod engine;
pub mod failure;
pub mod http;
pub mod local;
pub mod login;
pub mod nats;
pub mod nats_server;
pub mod node;
pub mod peer;
pub mod private;
pub mod resp;
pub mod run;
pub mod seams;
pub mod start;
pub mod surfaces;
pub mod talk;
pub mod topology;
