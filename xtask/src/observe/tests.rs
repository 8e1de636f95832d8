//! The committed files by themselves: what can be known of them without a Prometheus.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use super::dashboards::{Dashboard, substituted};
use super::*;

/// A dashboard as Grafana reads it.
struct Board {
    file: String,
    json: Value,
}

fn boards() -> Vec<Board> {
    let folder = shell::root().join(DASHBOARDS);
    let boards = Dashboard::all(&folder).unwrap().into_iter();
    boards
        .map(|Dashboard { file, queries }| {
            assert!(queries.len() > 10, "{file}");
            let json = serde_json::from_str(&fs::read_to_string(folder.join(&file)).unwrap()).unwrap();
            Board { file, json }
        })
        .collect()
}

fn yaml(path: &str) -> Value {
    serde_yaml_ng::from_str(&fs::read_to_string(shell::root().join(path)).unwrap()).unwrap()
}

fn panels(board: &Board) -> impl Iterator<Item = &Value> {
    board.json["panels"].as_array().unwrap().iter()
}

/// Left, top, right and bottom of a panel.
fn edges(panel: &Value) -> [u64; 4] {
    let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
    [x, y, x + w, y + h]
}

#[test]
fn names_are_those_of_series_and_no_other_words() {
    let found = |expression: &str| names_of(expression).join(" ");
    for (expression, expected) in [
        ("up", "up"),
        ("sum by (le, job) (rate(a_bucket{b=\"c_d\"}[5m])) / 2e3", "a_bucket"),
        ("a:b + on (x) group_left (y) c offset 5m", "a:b c"),
        ("histogram_quantile(0.9, sum(rate(a[$__rate_interval]))) > bool 1", "a"),
        ("a unless on (job) b{c=~\"d}e\"} == 1 or count without (x) (f)", "a b f"),
        ("(time() - start) < 60", "start"),
        ("topk(3, max_over_time(a[5m:1m]))", "a"),
    ] {
        assert_eq!(found(expression), expected, "{expression}");
    }
}

fn names_of(expression: &str) -> Vec<String> {
    promql::names(expression).into_iter().collect()
}

#[test]
fn panels_have_ids_of_their_own_and_do_not_overlap() {
    for board in boards() {
        let file = &board.file;
        let ids: BTreeSet<u64> = panels(&board).map(|panel| panel["id"].as_u64().unwrap()).collect();
        assert_eq!(ids.len(), panels(&board).count(), "{file}");
        let placed: Vec<([u64; 4], &str)> =
            panels(&board).map(|panel| (edges(panel), panel["title"].as_str().unwrap())).collect();
        for (i, (one, title)) in placed.iter().enumerate() {
            assert!(one[2] <= 24 && one[0] < one[2] && one[1] < one[3], "{file}: {title} at {one:?}");
            for (other, beside) in &placed[i + 1..] {
                let apart =
                    one[2] <= other[0] || other[2] <= one[0] || one[3] <= other[1] || other[3] <= one[1];
                assert!(apart, "{file}: {title} and {beside} overlap");
            }
        }
        let width =
            |panel: &Value| panel["gridPos"]["w"].as_u64().unwrap() * panel["gridPos"]["h"].as_u64().unwrap();
        let covered: u64 = panels(&board).map(width).sum();
        let bottom = placed.iter().map(|(edges, _)| edges[3]).max().unwrap();
        assert_eq!(covered, 24 * bottom, "{file}: no holes");
    }
}

#[test]
fn every_panel_says_what_it_shows_and_in_which_unit() {
    let mut titles = BTreeSet::new();
    for board in boards() {
        assert!(board.json["uid"].as_str().is_some_and(|uid| uid.starts_with("samosa-")));
        assert!(board.json["schemaVersion"].as_u64() >= Some(39) && board.json["id"].is_null());
        assert!(titles.insert(board.json["title"].as_str().unwrap().to_owned()));
        for panel in panels(&board).filter(|panel| panel["type"] != "row") {
            let title = format!("{}: {}", board.file, panel["title"].as_str().unwrap());
            assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title}");
            let defaults = &panel["fieldConfig"]["defaults"];
            assert!(defaults["unit"].as_str().is_some_and(|unit| !unit.is_empty()), "{title}");
            assert!(defaults["thresholds"]["steps"][0]["value"].is_null(), "{title}: a base colour");
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
            let targets = panel["targets"].as_array().unwrap();
            let letters: BTreeSet<&str> =
                targets.iter().map(|target| target["refId"].as_str().unwrap()).collect();
            assert!(!targets.is_empty() && letters.len() == targets.len(), "{title}");
            for target in targets {
                let expression = target["expr"].as_str().unwrap();
                assert!(
                    expression.contains("job=~\"$job\", instance=~\"$instance\""),
                    "{title}: {expression}"
                );
                assert!(!substituted(expression).contains('$'), "{title}: {expression}");
            }
        }
    }
}

#[test]
fn every_dashboard_has_its_variables_and_marks_swaps() {
    for board in boards() {
        let names = |list: &Value| -> Vec<String> {
            list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&board.json["templating"]["list"]), ["datasource", "job", "instance"]);
        assert!(names(&board.json["annotations"]["list"]).contains(&"Swaps".to_owned()));
        assert!(board.json["links"][0]["tags"][0] == "samosa" && board.json["tags"][0] == "samosa");
    }
}

#[test]
fn every_alert_says_what_to_do_and_is_tried_both_ways() {
    let (rules, tried) = (yaml(RULES), yaml(RULE_TESTS));
    let groups = rules["groups"].as_array().unwrap().iter();
    let alerts: Vec<&Value> = groups.flat_map(|group| group["rules"].as_array().unwrap()).collect();
    assert!(alerts.len() > 10);
    let checks: Vec<&Value> = tried["tests"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|test| test["promql_expr_test"].as_array().into_iter().flatten())
        .collect();
    for alert in alerts {
        let name = alert["alert"].as_str().unwrap();
        assert!(["page", "ticket"].contains(&alert["labels"]["severity"].as_str().unwrap()), "{name}");
        for words in ["description", "runbook"] {
            let text = alert["annotations"][words].as_str().unwrap();
            assert!(text.ends_with('.') && text.len() > 60, "{name}: {words}");
        }
        assert!(
            alert["annotations"]["summary"].as_str().unwrap().contains("{{ $labels.instance }}"),
            "{name}"
        );
        let own =
            checks.iter().filter(|check| check["expr"].as_str().unwrap().contains(&format!("\"{name}\"")));
        let fired: Vec<bool> =
            own.map(|check| !check["exp_samples"].as_array().unwrap().is_empty()).collect();
        assert!(fired.contains(&true) && fired.contains(&false), "{name}: {fired:?}");
    }
}
