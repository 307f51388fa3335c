package io.choria.mcorpc.authpolicy_test

import rego.v1

import data.io.choria.mcorpc.authpolicy

# A Wednesday, 10:00 in Berlin.
base := {
	"agent": "logforward", "callerid": "up=nobody", "collective": "choria", "data": {}, "facts": {"environment": "test"},
	"classes": ["role::app::web"], "provision_mode": false, "ttl": 60, "time": "2026-11-25T09:00:00Z",
}

asked(caller, action, inputs) := object.union(base, {"callerid": caller, "action": action, "data": inputs})

but(request, field, value) := object.union(object.remove(request, [field]), {field: value})

changed(request, inputs) := object.union(request, {"data": inputs})

without(request, name) := object.union(object.remove(request, ["data"]), {"data": object.remove(request.data, [name])})

test_everybody_reads if {
	every action in ["status", "list", "check"] {
		authpolicy.allow with input as asked("up=anybody", action, {})
		authpolicy.rule == {"reader"} with input as asked("up=anybody", action, {})
	}
}

test_nobody_changes if {
	every action in ["start", "stop", "pause", "resume", "redirect", "explode"] {
		not authpolicy.allow with input as asked("up=anybody", action, {"log": "app", "reason": "x", "for": "1h"})
	}
}

test_operators_roll_out if {
	every action in ["apply", "rollback"] {
		authpolicy.rule == {"rollout"} with input as asked("up=ops-bob", action, {})
		authpolicy.allow with input as asked("choria=ops-bob.mcollective", action, {})
		not authpolicy.allow with input as asked("up=oncall-eve", action, {})
		not authpolicy.allow with input as asked("local=root", action, {})
		not authpolicy.allow with input as but(asked("up=ops-bob", action, {}), "provision_mode", true)
	}
	authpolicy.rule == {"reader"} with input as asked("up=ops-bob", "plan", {})
	not authpolicy.allow with input as asked("", "plan", {})
}

test_no_other_agent if {
	not authpolicy.allow with input as but(asked("up=anybody", "status", {}), "agent", "service")
	not authpolicy.allow with input as object.remove(asked("up=anybody", "status", {}), ["agent"])
}

test_on_call_pauses_for_a_while if {
	every time in ["1m", "4h", "3h60m", "240m", "90s", "1.5h", "500ms", "0.001ms", "00004h"] {
		authpolicy.allow with input as asked("up=oncall-eve", "pause", {"log": "app", "reason": "disk", "for": time})
	}
	every time in ["241m", "4h1m", "4h0.001ms", "1d", "1w", "0s", "0", "0.0h", "soon", "", "1h\n", "-1h", "1e1h", "h", "1.h", ".5h", "1H", "１h", "999999999w999999999w", "1m1m1m1m1m1m1m1m1m1m1m1m1m1m1m1m1m1m1m1m1m"] {
		not authpolicy.allow with input as asked("up=oncall-eve", "pause", {"log": "app", "reason": "disk", "for": time})
	}
	every time in [60, true, null, ["1h"], {"h": 1}] {
		not authpolicy.allow with input as asked("up=oncall-eve", "pause", {"log": "app", "reason": "disk", "for": time})
	}
	not authpolicy.allow with input as asked("up=oncall-eve", "pause", {"log": "app", "reason": "disk"})
	authpolicy.allow with input as asked("up=oncall-eve", "pause", {"all": true, "reason": "disk", "for": "1h"})
	authpolicy.allow with input as asked("up=oncall-eve", "resume", {"all": true, "reason": "disk"})
	not authpolicy.allow with input as asked("up=oncall-eve", "resume", {"log": "app", "reason": "disk", "for": "5h"})
}

test_on_call_says_why if {
	every reason in ["", " ", "\t", "…", "--", 7, null] {
		not authpolicy.allow with input as asked("up=oncall-eve", "pause", {"log": "app", "reason": reason, "for": "1h"})
	}
	not authpolicy.allow with input as asked("up=oncall-eve", "pause", {"log": "app", "for": "1h"})
}

test_reading_needs_no_reason if {
	roles := {"both": {"callers": {"up=x": ""}, "actions": {"status", "pause"}, "reason": true}}
	authpolicy.allow with input as asked("up=x", "status", {}) with authpolicy.roles as roles
	not authpolicy.allow with input as asked("up=x", "pause", {"log": "app"}) with authpolicy.roles as roles
}

test_on_call_does_nothing_else if {
	every action in ["start", "stop", "redirect"] {
		not authpolicy.allow with input as asked("choria=oncall-eve.mcollective", action, {"log": "app", "reason": "disk", "for": "1h"})
	}
}

test_operators_stay_within_their_paths if {
	every path in ["/var/log/nginx/access.log", "/var/log/nginx/a/b.log", "/var/log/nginx/*.log", "/var/log/nginx/**", "/var/log/nginx/**/x[0-9].log", "/var/log/app/one.log", "/var/log/app/*.log", "/var/log/app/?.log", "/var/log/app/[a-z]*.log"] {
		authpolicy.allow with input as asked("up=ops-bob", "start", {"log": "app", "path": path, "destination": "central"})
	}
	every path in [
		"/etc/shadow", "/var/log/app/a/b.log", "/var/log/app/*", "/var/log/app/**", "/var/log/app/**.logs", "/var/log/app/**/x.log", "/var/log/*", "/**",
		"/var/log/nginx", "/var/log/nginx/", "/var/log/nginxx/a", "/var/log/{nginx,audit}/a", "/var/log/nginx/{..,a}/shadow", "/var/log/nginx/{.,a}./shadow", "/VAR/log/nginx/a",
		"/var/log/nginx/../audit/audit.log", "/var/log/nginx/./a", "/var/log/nginx//a", "var/log/nginx/a", "/var/log/nginx/a\\*", "/var/log/nginx/[", "/var/log/nginx/[]]", "/var/log/nginx/[a/b]",
		"/var/log/nginx/a\n", "/var/log/nginx/\ta", "/var/log/app/x.log\n", " /var/log/nginx/a", "/var/log/ngınx/a", "/var/log/app/x。log",
	] {
		not authpolicy.allow with input as asked("up=ops-bob", "start", {"log": "app", "path": path, "destination": "central"})
	}
	every path in [7, false, null, ["/var/log/nginx/a"]] {
		not authpolicy.allow with input as asked("up=ops-bob", "start", {"log": "app", "path": path, "destination": "central"})
	}
	every inputs in [{"all": true}, {}, {"log": ""}, {"log": 7}, {"log": "app", "all": true}, {"log": "app", "all": 1}, {"path": ""}] {
		not authpolicy.allow with input as asked("up=ops-bob", "pause", inputs)
	}
	authpolicy.allow with input as asked("up=ops-bob", "pause", {"log": "app"})
	not authpolicy.allow with input as but(asked("up=ops-bob", "pause", {}), "data", null)
}

test_operators_stay_within_their_destinations if {
	authpolicy.allow with input as asked("up=ops-bob", "redirect", {"log": "app", "destination": "staging"})
	authpolicy.allow with input as asked("up=ops-bob", "redirect", {"log": "app", "destination": "staging", "current": "central"})
	authpolicy.allow with input as asked("up=ops-bob", "start", {"log": "app"})
	every destination in ["external", "", "Central", "central ", "сentral", "*", 7, ["central"]] {
		not authpolicy.allow with input as asked("up=ops-bob", "redirect", {"log": "app", "destination": destination})
	}
	not authpolicy.allow with input as asked("up=ops-bob", "redirect", {"log": "app"})
	not authpolicy.allow with input as asked("up=ops-bob", "redirect", {"log": "app", "destination": "staging", "current": "audit"})
}

training := asked("up=trainee-tim", "start", {"log": "training-1", "path": "/var/log/app/one.log", "destination": "staging", "for": "1h", "rate": "1MiB/s", "reason": "lesson 3"})

test_trainees_begin if {
	authpolicy.rule == {"trainee"} with input as training
	every rate in ["1MiB/s", "1m", "1M", "1048576", "1024 KiB/s", "0.5MB/s", "1mib", "1B/s", "1.000m"] {
		authpolicy.allow with input as changed(training, {"rate": rate})
	}
	authpolicy.allow with input as without(without(asked("up=trainee-tim", "start", {"log": "training-1", "reason": "x"}), "for"), "rate")
	authpolicy.allow with input as changed(asked("up=trainee-tim", "start", {"log": "training-1", "reason": "x"}), {"path": "/var/log/app/one.log", "lifts": true})
	authpolicy.allow with input as asked("up=trainee-tim", "stop", {"log": "training-1", "for": "5m", "reason": "x"})
	every time in ["2026-11-25T07:00:00Z", "2026-11-25T16:59:59.999Z", "2026-11-27T12:00:00+05:00", "2026-07-01T06:00:00Z"] {
		authpolicy.allow with input as but(training, "time", time)
	}
}

test_trainees_keep_to_each_limit if {
	every change in [
		{"log": "app"}, {"log": ""}, {"all": true}, {"path": "/var/log/nginx/access.log"}, {"destination": "central"}, {"for": "61m"}, {"for": ""},
		{"rate": "2MiB/s"}, {"rate": "1048577"}, {"rate": "1.001m"}, {"rate": "unlimited"}, {"rate": "0"}, {"rate": "0.0"}, {"rate": ""}, {"rate": "1KKiB"}, {"rate": "1xb"}, {"rate": 5}, {"rate": "1MiB/s\n"},
		{"reason": "?"},
	] {
		not authpolicy.allow with input as changed(training, change)
	}
	every name in ["log", "for", "rate", "reason"] {
		not authpolicy.allow with input as without(training, name)
	}
	not authpolicy.allow with input as changed(asked("up=trainee-tim", "stop", {"log": "training-1", "for": "5m", "reason": "x"}), {"rate": "2m"})
	every pair in [
		["collective", "other"], ["collective", ""], ["collective", null], ["classes", []], ["classes", null], ["classes", ["roles"]], ["classes", "role::app"],
		["provision_mode", true], ["provision_mode", null], ["ttl", 121], ["ttl", -1], ["ttl", "60"], ["ttl", null],
		["time", "2026-11-25T06:59:59Z"], ["time", "2026-11-25T17:00:00Z"], ["time", "2026-11-28T10:00:00Z"], ["time", "2026-07-01T16:00:00Z"], ["time", "noon"], ["time", 7], ["time", "0001-01-01T00:00:00Z"],
	] {
		not authpolicy.allow with input as but(training, pair[0], pair[1])
	}
	every field in ["collective", "classes", "provision_mode", "ttl", "time", "facts"] {
		not authpolicy.allow with input as object.remove(training, [field])
	}
}

test_trainees_keep_to_test_nodes if {
	authpolicy.allow with input as but(training, "facts", {"environment": "test-7"})
	every environment in ["production", "Test", "test\n", "", 7, 1.5, true, false, null, {"test": "test"}, ["test"], 100000000000000000000] {
		not authpolicy.allow with input as but(training, "facts", {"environment": environment})
	}
	every facts in [{}, null, "test", ["test"]] {
		not authpolicy.allow with input as but(training, "facts", facts)
	}
}

audit := {"log": "audit", "path": "/var/log/audit/audit.log", "destination": "audit", "reason": "case 7"}

test_the_audit_team_alone_has_the_audit_log if {
	authpolicy.allow with input as asked("up=audit-ann", "start", audit)
	authpolicy.rule == {"audit"} with input as asked("up=audit-ann", "start", audit)
	not authpolicy.allow with input as asked("up=ops-bob", "start", audit)
	every change in [{"destination": "central"}, {"path": "/var/log/audit/"}, {"path": "/var/log/audit/a/b"}, {"reason": ""}, {"path": "/var/log/*/audit.log"}] {
		not authpolicy.allow with input as asked("up=audit-ann", "start", object.union(audit, change))
	}
	not authpolicy.allow with input as asked("up=audit-ann", "redirect", audit)
}

# What roles allow doesn't help against a deny rule.
everything := {"all": {"callers": {"up=all-*": "^up=all-.*$"}, "actions": {"start", "stop", "pause", "resume", "redirect", "status"}}}

test_nobody_else_has_the_audit_log if {
	every path in [
		"/var/log/audit/audit.log", "/var/log/audit/a/b", "/var/log/audit/*", "/var/log/*/audit.log", "/var/**", "/**/audit.log", "/var/log/**/x", "/var/log/aud??/x",
		"/var/log/[a-b]udit/audit.log", "/var/log/nginx/../audit/audit.log", "/var/log/{audit,nginx}/x", "/var/log//audit/audit.log", 7,
	] {
		request := asked("up=all-eve", "start", {"log": "app", "path": path, "destination": "central"})
		not authpolicy.allow with input as request with authpolicy.roles as everything
		authpolicy.denied == {"audit-log"} with input as request with authpolicy.roles as everything
	}
	every path in ["/var/log/audit", "/var/log/audits/x", "/var/log/*.log", "/var/log/*", "/var/spool/*/x", "/srv/**", "/var/log/nginx/**", "/var/log/Audit/x", ""] {
		authpolicy.allow with input as asked("up=all-eve", "start", {"log": "app", "path": path, "destination": "central"}) with authpolicy.roles as everything
	}
}

test_nobody_else_has_all_with_the_audit_log if {
	every inputs in [{}, {"path": ""}, {"all": true, "log": "app"}] {
		not authpolicy.allow with input as asked("up=all-eve", "start", inputs) with authpolicy.roles as everything
	}
	authpolicy.allow with input as asked("up=all-eve", "pause", audit) with authpolicy.roles as everything
	authpolicy.allow with input as but(asked("up=audit-ann", "start", audit), "facts", {"environment": "production"})
}

# A rule that spares * and ** at the end only differs in depth, too.
test_paths_apart if {
	denied := {"logs": {"actions": {"start"}, "paths": {"/srv/*/x": "^/srv/[^/[:cntrl:]]*/x$"}}}
	every path in ["/srv/a/b/x", "/srv/a", "/srv/*/x/y", "/srv/a/b/*", "/srv/**/a/b/x", "/var/*/x"] {
		authpolicy.allow with input as asked("up=all-eve", "start", {"log": "app", "path": path}) with authpolicy.roles as everything with authpolicy.denials as denied
	}
	every path in ["/srv/a/x", "/srv/*/y", "/srv/**", "/srv/**/y", "/s*/a/x", "/**"] {
		not authpolicy.allow with input as asked("up=all-eve", "start", {"log": "app", "path": path}) with authpolicy.roles as everything with authpolicy.denials as denied
	}
}

test_nobody_sends_production_to_the_outside if {
	request := asked("up=all-eve", "redirect", {"log": "app", "destination": "external"})
	authpolicy.allow with input as request with authpolicy.roles as everything
	every facts in [{"environment": "production"}, {}, null, {"environment": 1.5}, {"environment": null}] {
		not authpolicy.allow with input as but(request, "facts", facts) with authpolicy.roles as everything
		authpolicy.denied == {"external-in-production"} with input as but(request, "facts", facts) with authpolicy.roles as everything
	}
	every environment in ["test", 7, true, false] {
		authpolicy.allow with input as but(request, "facts", {"environment": environment}) with authpolicy.roles as everything
	}
	production := but(request, "facts", {"environment": "production"})
	authpolicy.allow with input as but(production, "action", "status") with authpolicy.roles as everything
	every destination in ["", 7, null] {
		not authpolicy.allow with input as changed(production, {"destination": destination}) with authpolicy.roles as everything
	}
	authpolicy.allow with input as changed(production, {"destination": "central"}) with authpolicy.roles as everything
	authpolicy.allow with input as but(changed(production, {"destination": ""}), "action", "start") with authpolicy.roles as everything
}

test_nobody_changes_a_node_that_is_provisioned if {
	request := asked("up=oncall-eve", "pause", {"log": "app", "reason": "x", "for": "1h"})
	authpolicy.allow with input as request
	every mode in [true, null, "false"] {
		not authpolicy.allow with input as but(request, "provision_mode", mode)
	}
	not authpolicy.allow with input as object.remove(request, ["provision_mode"])
	authpolicy.allow with input as but(asked("up=oncall-eve", "status", {}), "provision_mode", true)
}

test_callers_are_whole if {
	every caller in ["xup=oncall-eve", "up=Oncall-eve", "UP=oncall-eve", "choria=oncall-eve", "up=ops", "", "*", "up=oncall-*=x", "up=oncall-a\n", "up=oncall-a=up=ops-b", "up=oncaⅼⅼ-eve", "local=root ", "local=Root", "group=oncall", 7, null, ["up=oncall-eve"]] {
		not authpolicy.allow with input as asked(caller, "pause", {"log": "app", "reason": "x", "for": "1h"})
	}
	not authpolicy.allow with input as object.remove(asked("x", "status", {}), ["callerid"])
	authpolicy.allow with input as asked("local=root", "pause", {"log": "app", "reason": "x", "for": "1h"})
}

# Hours that end after midnight belong to the day on which they begin, and clocks are those on the walls.
test_nights if {
	night := {"from": 1320, "to": 360, "days": {"Friday"}, "zone": "Europe/Berlin"}
	roles := {"night": {"callers": {"up=x": ""}, "actions": {"pause"}, "times": [night]}}
	request := asked("up=x", "pause", {"log": "app"})
	every time in ["2026-11-27T21:00:00Z", "2026-11-28T04:59:59Z", "2026-03-28T04:30:00Z", "2026-10-23T20:00:00Z"] {
		authpolicy.allow with input as but(request, "time", time) with authpolicy.roles as roles
	}
	every time in ["2026-11-27T20:59:59Z", "2026-11-28T05:00:00Z", "2026-11-27T04:00:00Z", "2026-11-28T21:30:00Z", "2026-10-24T04:00:00Z"] {
		not authpolicy.allow with input as but(request, "time", time) with authpolicy.roles as roles
	}
	not authpolicy.allow with input as request with authpolicy.roles as {"night": object.union(roles.night, {"times": [object.union(night, {"zone": "Europe/Nowhere"})]})}
}

test_facts_within_facts if {
	roles := {"debian": {"callers": {"up=x": ""}, "actions": {"pause"}, "facts": {"os.family": {"Debian": ""}, "cores": {"4": ""}, "virtual": {"true": ""}}}}
	request := asked("up=x", "pause", {"log": "app"})
	every facts in [{"os": {"family": "Debian"}, "cores": 4, "virtual": true}, {"os": {"family": "Debian"}, "cores": "4", "virtual": "true"}, {"os": {"family": "Debian"}, "cores": 4.0, "virtual": true}] {
		authpolicy.allow with input as but(request, "facts", facts) with authpolicy.roles as roles
	}
	every facts in [{"os.family": "Debian", "cores": 4, "virtual": true}, {"os": "Debian", "cores": 4, "virtual": true}, {"os": {"family": "Debian"}, "cores": 4.5, "virtual": true}, {"os": {"family": "Debian"}, "cores": 4, "virtual": false}] {
		not authpolicy.allow with input as but(request, "facts", facts) with authpolicy.roles as roles
	}
}
