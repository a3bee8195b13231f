//! The preset `lambda`: events, answers, policies.

use portreeve_guest::testing::connect;
use portreeve_guest::{Action, RefusalReason, Verdict};
use portreeve_script::ScriptError;

use super::{admitted, ask, load, refused, request};

const LAMBDA: (&str, &str) = ("preset", "lambda");

/// The verdict for these statements.
fn with_statements(statements: &str, more: &[(&str, &str)]) -> Result<Verdict, ScriptError> {
    let script = format!(
        "exports.handler = async () => ({{ isAuthenticated: true, principalId: 'p1', policyDocuments: [
            {{ Statement: [ {{ Effect: 'Allow', Action: 'iot:Connect', Resource: '*' }}, {statements} ] }} ] }});"
    );
    let more: Vec<_> = [LAMBDA].into_iter().chain(more.iter().copied()).collect();
    ask(&script, &more, &request("u", "p"))
}

fn permissions(statements: &str) -> Vec<(Action, String)> {
    let admission = admitted(with_statements(statements, &[]).unwrap());
    admission.permissions.unwrap().into_iter().map(|one| (one.action, one.topic_filter)).collect()
}

fn allow(action: &str, resource: &str) -> String {
    format!("{{ Effect: 'Allow', Action: '{action}', Resource: 'arn:aws:iot:r:1:{resource}' }},")
}

fn deny(action: &str, resource: &str) -> String {
    allow(action, resource).replace("Allow", "Deny")
}

#[test]
fn the_example_is_admitted_with_its_policy() {
    let mut verifier = load(include_str!("../../scripts/lambda.js"), &[LAMBDA]).unwrap();
    let admission = admitted(
        verifier.verify(&request("user-1?x-amz-customauthorizer-name=a", "demo")).unwrap(),
    );
    assert_eq!(admission.device_name, "client-1");
    assert_eq!(admission.attributes, [("principal_id".to_owned(), "user1".to_owned())]);
    assert_eq!(admission.expires_in, Some(3600));
    let permissions: Vec<_> = admission
        .permissions
        .unwrap()
        .into_iter()
        .map(|one| (one.action, one.topic_filter))
        .collect();
    let expected =
        [(Action::Publish, "devices/client-1/+/#"), (Action::Subscribe, "devices/client-1/down")];
    assert_eq!(permissions, expected.map(|(action, filter)| (action, filter.to_owned())));
    let refusal = refused(verifier.verify(&request("user-1", "wrong")).unwrap());
    assert_eq!(refusal.reason, RefusalReason::BadUserNameOrPassword);
}

#[test]
fn the_event_is_that_of_custom_authorizers() {
    let script = "exports.handler = async (event) => { throw new Error(JSON.stringify(event)); };";
    let error =
        ask(script, &[LAMBDA, ("token_key", "token")], &request("u?a=b&token=x%3D1", "demo"));
    let event = r#"{"signatureVerified":false,"protocols":["mqtt"],"protocolData":{"mqtt":{"username":"u?a=b&token=x%3D1","password":"ZGVtbw==","clientId":"client-1"}},"connectionMetadata":{"id":"1"},"token":"x=1"}"#;
    assert!(error.as_ref().unwrap_err().message.contains(event), "{error:?}");
    let error = ask(script, &[LAMBDA], &connect("c").build()).unwrap_err();
    assert!(error.message.contains(r#""protocolData":{"mqtt":{"clientId":"c"}}"#), "{error}");
}

#[test]
fn topics_and_filters_of_policies_become_permissions() {
    let publish = |resource: &str| permissions(&allow("iot:Publish", resource));
    let filter = |filter: &str| vec![(Action::Publish, filter.to_owned())];
    assert_eq!(publish("topic/a/b"), filter("a/b"));
    assert_eq!(publish("topic/a/*"), filter("a/+/#"));
    assert_eq!(publish("topic/*"), filter("#"));
    assert_eq!(publish("topic/a/*/c"), filter("a/+/c"));
    assert_eq!(publish("topic/d/${iot:ClientId}/x"), filter("d/client-1/x"));
    // Wildcards of MQTT are plain characters in a topic, and no topic has them.
    assert_eq!(publish("topic/a/#"), []);
    assert_eq!(publish("topic/a/+"), []);
    assert_eq!(publish("topicfilter/a"), []);
    let all = "{ Effect: 'Allow', Action: ['iot:*'], Resource: ['*'] },";
    assert_eq!(
        permissions(all),
        [(Action::Publish, "#".to_owned()), (Action::Subscribe, "#".to_owned())]
    );
}

#[test]
fn reading_takes_a_filter_and_its_topics() {
    let read = |filter: &str, topic: &str| -> Vec<String> {
        let statements = allow("iot:Subscribe", filter) + &allow("iot:Receive", topic);
        permissions(&statements).into_iter().map(|(_, filter)| filter).collect()
    };
    assert_eq!(read("topicfilter/a/b", "topic/a/b"), ["a/b"]);
    assert_eq!(read("topicfilter/a/*", "topic/a/*"), ["a/#"]);
    assert_eq!(read("topicfilter/*", "topic/a/b"), ["a/b"]);
    assert_eq!(read("topicfilter/a/+", "topic/*"), ["a/+"]);
    assert_eq!(read("topicfilter/a/b", "topic/c"), Vec::<String>::new());
    assert_eq!(permissions(&allow("iot:Subscribe", "topicfilter/a")), []);
    assert_eq!(permissions(&allow("iot:Receive", "topic/a")), []);
}

#[test]
fn what_is_denied_is_never_permitted() {
    for statements in [
        allow("iot:Publish", "topic/a/*") + &deny("iot:Publish", "topic/a/secret"),
        allow("iot:Publish", "topic/a/b") + &deny("iot:*", "*"),
        allow("iot:Publish", "topic/a/b") + "{ Effect: 'Deny', Action: '*', Resource: '*' }",
        allow("iot:Subscribe", "topicfilter/a/#") + &deny("iot:Receive", "topic/a/x"),
        allow("iot:Subscribe", "topicfilter/a") + &deny("iot:Subscribe", "topicfilter/*"),
        deny("iot:Connect", "client/client-1"),
        deny("iot:Connect", "client/cl*"),
        allow("iot:Publish", "topic/dev*/x"),
    ] {
        let verdict = with_statements(&statements, &[]).unwrap();
        assert_eq!(refused(verdict).reason, RefusalReason::NotAuthorized, "{statements}");
    }
    let apart = allow("iot:Publish", "topic/a/*") + &deny("iot:Publish", "topic/b/*");
    assert_eq!(permissions(&apart), [(Action::Publish, "a/+/#".to_owned())]);
    let more = [("unsupported_policy", "leave-out")];
    let verdict = with_statements(&allow("iot:Publish", "topic/dev*/x"), &more).unwrap();
    assert_eq!(admitted(verdict).permissions, Some(Vec::new()));
}

#[test]
fn a_policy_that_cannot_be_read_admits_nobody() {
    for statements in [
        "{ Effect: 'allow', Action: 'iot:Publish', Resource: '*' }",
        "{ Effect: 'Allow', Action: 'iot:Publish' }",
        "{ Effect: 'Allow', Resource: '*' }",
        "{ Effect: 'Allow', NotAction: 'iot:Publish', Resource: '*' }",
        "{ Effect: 'Allow', Action: 'iot:Publish', Resource: '*', Condition: {} }",
        "{ Effect: 'Allow', Action: 'iot:Publish', Resource: 'arn:aws:iot:r:1:topic/${iot:Unknown}' }",
        "null",
    ] {
        assert!(with_statements(statements, &[]).is_err(), "{statements}");
    }
    let answer = |answer: &str| {
        let script = format!("exports.handler = async () => ({answer});");
        ask(&script, &[LAMBDA], &request("u", "p"))
    };
    let ok = "isAuthenticated: true, principalId: 'p'";
    for wrong in [
        "{}".to_owned(),
        "{ isAuthenticated: 'true' }".to_owned(),
        "{ isAuthenticated: 1 }".to_owned(),
        "{ isAuthenticated: true }".to_owned(),
        format!("{{ {ok} }}"),
        format!("{{ {ok}, policyDocuments: {{}} }}"),
        format!("{{ {ok}, policyDocuments: [{{}}] }}"),
        format!("{{ {ok}, policyDocuments: ['x'] }}"),
        format!("{{ {ok}, policyDocuments: Array(11).fill({{ Statement: [] }}) }}"),
        format!("{{ {ok}, policyDocuments: [{{ Statement: [], Id: 'x'.repeat(2048) }}] }}"),
        format!("{{ {ok}, policyDocuments: [], refreshAfterInSeconds: 10 }}"),
        "{ isAuthenticated: true, principalId: 'a-b', policyDocuments: [] }".to_owned(),
    ] {
        assert!(answer(&wrong).is_err(), "{wrong}");
    }
    let verdict = answer(&format!("{{ {ok}, policyDocuments: [] }}")).unwrap();
    assert_eq!(refused(verdict).message, "the policy does not allow iot:Connect");
    let text =
        "JSON.stringify({ Statement: { Effect: 'Allow', Action: 'iot:Connect', Resource: '*' } })";
    admitted(answer(&format!("{{ {ok}, policyDocuments: [{text}] }}")).unwrap());
}
