//! A node whose state store fails must not go on.

use bytes::Bytes;
use trine::node::{Failed, Node};
use trine_database::resp::Value;
use trine_storage::OrderedStore;

mod lone;

async fn set(node: &Node, value: &'static str) -> Value {
    let mut connection = node.database.connect("a test");
    node.database.execute(&mut connection, ["SET", "k", value].map(Bytes::from).to_vec()).await
}

#[tokio::test]
async fn a_node_whose_state_store_fails_must_stop() {
    let store = OrderedStore::new(1);
    let node = lone::node(store.clone()).await;
    while set(&node, "before").await != Value::Simple("OK".into()) {}
    store.fail_commits(1);
    let failed = tokio::select! {
        biased;
        failed = node.failed() => failed,
        reply = set(&node, "lost") => panic!("{reply:?} from a store that fails"),
    };
    assert!(matches!(failed, Failed::State(_)), "{failed}");
    let text = failed.to_string();
    assert!(text.contains("injected commit failure") && text.contains("the node stops"), "{text}");
}
