//! `leading_slash = "optional"`: `/a` and `a` are one topic, and every client is told it as it subscribed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use portreeve_mqtt::{Connect, PropertiesBuf, Property, SubscriptionOptions, Will};
use portreeve_tests::client::{connect, qos, will};
use portreeve_tests::plugins::manifest;
use portreeve_tests::{TestGateway, V5, V311};

fn optional() -> TestGateway {
    TestGateway::open().with_gateway_line("leading_slash = \"optional\"")
}

#[test]
fn a_slash_counts_where_nothing_else_is_said_mqtt_4_7_3() {
    let gateway = TestGateway::open().start();
    let mut client = gateway.client(V311, "client");
    client.subscribe("a", 0);
    client.subscribe("/b", 0);
    client.publish("/a", "no");
    client.publish("b", "no");
    client.publish("/b", "yes");
    let publish = client.next_publish();
    assert_eq!((publish.topic.as_str(), publish.text().as_str()), ("/b", "yes"));
}

#[test]
fn both_forms_are_one_topic_and_each_client_is_told_its_own() {
    let gateway = optional().start();
    for version in [V311, V5] {
        let (mut plain, mut slashed) =
            (gateway.client(version, "plain"), gateway.client(version, "slashed"));
        plain.subscribe("down/+", 1);
        slashed.subscribe("/down/#", 1);
        for topic in ["down/1", "/down/1"] {
            for client in [&mut plain, &mut slashed] {
                client.publish(topic, "x");
            }
            for _ in 0..2 {
                assert_eq!(plain.next_publish().topic, "down/1");
                assert_eq!(slashed.next_publish().topic, "/down/1");
            }
        }
        // The same subscription by its other name, then none.
        assert_eq!(slashed.subscribe("down/#", 0), 0);
        plain.publish("/down/2", "x");
        assert_eq!(plain.next_publish().topic, "down/2");
        assert_eq!(slashed.next_publish().topic, "/down/2");
        slashed.expect_silence();
    }
    // A level of its own that is empty is one still, and `$SYS` has no other name.
    let mut client = gateway.client(V5, "client");
    client.subscribe("/x", 0);
    client.publish("//x", "no");
    client.subscribe("/$SYS/#", 0);
    client.publish("x", "yes");
    assert_eq!(client.next_publish().text(), "yes");
}

#[test]
fn what_is_retained_shared_or_a_will_goes_by_either_name() {
    let gateway = optional().start();
    let mut client = gateway.client(V5, "client");
    client.publish_retained("/kept", "first");
    client.publish_retained("kept", "second");
    client.subscribe("/kept", 0);
    assert_eq!(client.next_publish().text(), "second");
    client.expect_silence();
    for (client_id, filter) in [("one", "$share/group//jobs"), ("two", "$share/group/jobs")] {
        let mut member = gateway.client(V5, client_id);
        member.subscribe(filter, 0);
        client.publish("jobs", client_id);
        let publish = member.next_publish();
        let topic = if client_id == "one" { "/jobs" } else { "jobs" };
        assert_eq!((publish.topic.as_str(), publish.text().as_str()), (topic, client_id));
        member.disconnect();
    }
    let mut dying = gateway.dial();
    dying.connect_with(&Connect {
        will: Some(Will { qos: qos(0), ..will("/wills", "gone") }),
        ..connect(V311, "dying")
    });
    client.subscribe("wills", 0);
    drop(dying);
    let publish = client.next_publish();
    assert_eq!((publish.topic.as_str(), publish.text().as_str()), ("/wills", "gone"));
}

#[test]
fn identifiers_and_aliases_go_with_the_slash_mqtt5() {
    let gateway = optional().start();
    let properties: PropertiesBuf = std::iter::once(Property::TopicAliasMaximum(5)).collect();
    let mut client = gateway.dial();
    client
        .connect_with(&Connect { properties: properties.as_properties(), ..connect(V5, "client") });
    client.subscribe_with("/a", SubscriptionOptions::with_qos(qos(0)), Some(7));
    client.publish("a", "1");
    let first = client.next_publish();
    assert_eq!(first.topic, "/a");
    assert!(format!("{:?}", first.properties).contains("SubscriptionIdentifier(7)"), "{first:?}");
    client.publish("/a", "2");
    // The alias stands for the topic as it was told.
    assert_eq!((client.next_publish().topic.as_str(), first.topic.as_str()), ("", "/a"));
}

#[test]
fn rules_and_bindings_hold_for_both_forms_however_they_are_written() {
    let gateway = optional()
        .with_plugin("versioned", &manifest("1", ""))
        .with_binding("versioned", "/raw/in", "may_publish = [\"/raw/out\"]")
        .with(
            "[[gateway.topic_rule]]\neffect = \"deny\"\ntopic = \"/secret/#\"\n\
             [[gateway.topic_rule]]\neffect = \"deny\"\ntopic = \"hidden/#\"",
        )
        .start();
    let mut client = gateway.client(V5, "client");
    for topic in ["secret/x", "/secret/x", "hidden/x", "/hidden/x"] {
        assert_eq!(client.publish_at_least_once(topic, "x"), 0x87, "{topic}");
        assert_eq!(client.subscribe(topic, 0), 0x87, "{topic}");
        let refused = gateway
            .dial()
            .connect_code(&Connect { will: Some(will(topic, "x")), ..connect(V5, "with-will") });
        assert_eq!(refused, 0x87, "{topic}");
    }
    client.subscribe("raw/out", 0);
    for topic in ["raw/in", "/raw/in"] {
        assert_eq!(client.publish_at_least_once(topic, "x"), 0, "{topic}");
        assert_eq!(client.next_publish().text(), "1:x");
    }
}

#[test]
fn a_session_that_waits_over_a_restart_is_told_topics_as_it_subscribed() {
    let folder = tempfile::tempdir().unwrap();
    let data = format!("[data]\ndirectory = {:?}\n", folder.path().join("data"));
    let gateway = optional().with(&data).start();
    let mut login = connect(V311, "client");
    login.clean_start = false;
    let mut client = gateway.dial();
    client.connect_with(&login);
    client.subscribe("/down", 1);
    client.disconnect();
    gateway.client(V5, "other").publish_at_least_once("down", "waits");
    assert!(gateway.shut_down());
    let gateway = optional().with(&data).start();
    let mut client = gateway.dial();
    assert!(client.connect_with(&login), "the session is there");
    let publish = client.next_publish();
    assert_eq!((publish.topic.as_str(), publish.text().as_str()), ("/down", "waits"));
    gateway.client(V5, "other").publish_at_least_once("down", "now");
    assert_eq!(client.next_publish().topic, "/down");
}
