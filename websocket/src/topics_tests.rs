use super::*;
use crate::lobby::{Lobby, text};

fn names(topics: &[Rc<str>]) -> Vec<&str> {
    let mut names: Vec<_> = topics.iter().map(|topic| &**topic).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_message_goes_to_the_subscribers_of_its_topic_but_the_sender() {
    let lobby = Lobby::new();
    let [(a, first), (b, second), (c, third)] = lobby.clients();
    let topics = Topics::new();
    topics.subscribe("news", &first).unwrap();
    topics.subscribe("news", &second).unwrap();
    topics.subscribe("news", &second).unwrap(); // is already
    topics.subscribe("sport", &third).unwrap();
    topics.publish("news", "all", None);
    topics.publish("news", "not the first", Some(&first));
    topics.publish("nobody", "nothing", None);
    lobby.reactor.settle();
    assert_eq!(a.received(), text("all"));
    assert_eq!(b.received(), [text("all"), text("not the first")].concat());
    assert_eq!(c.received(), b"");
}

#[test]
fn subscriptions_can_be_listed_and_ended() {
    let lobby = Lobby::new();
    let [(a, first), (_b, second)] = lobby.clients();
    let topics = Topics::new();
    for topic in ["x", "y", "z"] {
        topics.subscribe(topic, &first).unwrap();
    }
    topics.subscribe("y", &second).unwrap();
    assert_eq!(names(&topics.topics_of(&first)), ["x", "y", "z"]);
    assert!(topics.unsubscribe("x", &first) && !topics.unsubscribe("x", &first));
    assert!(!topics.unsubscribe("z", &second));
    assert_eq!(names(&topics.topics_of(&first)), ["y", "z"]);
    topics.unsubscribe_all(&first);
    topics.publish("y", "late", None);
    lobby.reactor.settle();
    assert_eq!(a.received(), b"");
    assert_eq!(names(&topics.topics()), ["y"]);
    assert_eq!(topics.subscribers("y"), [second]);
    assert!(topics.topics_of(&first).is_empty() && topics.subscribers("x").is_empty());
}

#[test]
fn a_socket_has_no_more_topics_than_it_may() {
    let lobby = Lobby::new();
    let (_peer, socket) = lobby.client();
    let topics = Topics::with_limit(2);
    topics.subscribe("1", &socket).unwrap();
    topics.subscribe("2", &socket).unwrap();
    assert_eq!(topics.subscribe("3", &socket), Err(TooManyTopics { limit: 2 }));
    topics.subscribe("2", &socket).unwrap(); // is already
    topics.unsubscribe("1", &socket);
    topics.subscribe("3", &socket).unwrap();
    assert_eq!(names(&topics.topics_of(&socket)), ["2", "3"]);
}

/// T70
#[test]
fn neither_dead_sockets_nor_their_topics_are_collected() {
    let lobby = Lobby::new();
    let topics = Topics::new();
    for number in 0..1000 {
        let (peer, socket) = lobby.client();
        topics.subscribe("common", &socket).unwrap();
        topics.subscribe(&format!("{number}"), &socket).unwrap();
        peer.reset();
        lobby.reactor.settle();
        assert_eq!(topics.topics().len(), 0);
        let held = topics.0.borrow();
        assert!(held.topics.len() <= SUBSCRIPTIONS_BEFORE_SWEEP + 2, "{}", held.topics.len());
        assert!(held.sockets.len() <= SUBSCRIPTIONS_BEFORE_SWEEP + 2, "{}", held.sockets.len());
    }
}

#[test]
fn a_topic_whose_last_subscriber_has_gone_is_forgotten_by_the_next_publish() {
    let lobby = Lobby::new();
    let [(a, first), (b, second)] = lobby.clients();
    let topics = Topics::new();
    topics.subscribe("x", &first).unwrap();
    topics.subscribe("x", &second).unwrap();
    topics.subscribe("y", &second).unwrap();
    a.reset();
    b.reset();
    lobby.reactor.settle();
    topics.publish("x", "to nobody", None);
    let held = topics.0.borrow();
    assert_eq!(held.topics.len(), 1);
    drop(held);
    assert_eq!(topics.topics().len(), 0);
}
