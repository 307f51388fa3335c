package io.choria.aaasvc_test

import rego.v1

import data.io.choria.aaasvc

base := {
	"agent": "logforward", "claims": {"callerid": "up=nobody"}, "sender": "client", "collective": "choria", "data": {}, "site": "server",
	"ttl": 60, "time": "2026-11-25T09:00:00Z",
}

asked(caller, action, inputs) := object.union(base, {"claims": {"callerid": caller}, "action": action, "data": inputs})

test_everybody_reads if {
	aaasvc.rule == {"reader"} with input as asked("up=anybody", "status", {})
	aaasvc.allow with input as asked("up=anybody", "status", {})
	not aaasvc.allow with input as asked("up=anybody", "pause", {"log": "app", "for": "1h", "reason": "disk"})
}

# Who a request says that it is from doesn't count, what the token says does.
test_claims_count if {
	request := asked("up=anybody", "pause", {"log": "app", "for": "1h", "reason": "disk"})
	not aaasvc.allow with input as object.union(request, {"callerid": "up=oncall-eve"})
	aaasvc.allow with input as asked("up=oncall-eve", "pause", {"log": "app", "for": "1h", "reason": "disk"})
	every claims in [{}, {"callerid": 7}, {"callerid": ""}, null, "up=oncall-eve"] {
		not aaasvc.allow with input as object.union(object.remove(request, ["claims"]), {"claims": claims})
	}
}

test_limits_hold if {
	every inputs in [{"log": "app", "for": "5h", "reason": "disk"}, {"log": "app", "for": "1h"}, {"log": "app", "reason": "disk"}] {
		not aaasvc.allow with input as asked("up=oncall-eve", "pause", inputs)
	}
	aaasvc.allow with input as asked("up=oncall-eve", "resume", {"all": true, "reason": "disk"})
	start := {"log": "x", "path": "/var/log/nginx/a.log", "destination": "central"}
	aaasvc.allow with input as asked("up=ops-bob", "start", start)
	aaasvc.allow with input as asked("up=ops-bob", "stop", {"log": "x"})
	every change in [{"path": "/etc/shadow"}, {"path": "/var/log/*"}, {"path": "/var/log/nginx/**/../x"}, {"destination": "external"}, {"current": "audit"}] {
		not aaasvc.allow with input as asked("up=ops-bob", "start", object.union(start, change))
	}
	not aaasvc.allow with input as asked("up=ops-bob", "stop", {"all": true})
	aaasvc.allow with input as asked("up=oncall-eve", "resume", {"log": "app", "for": "1h", "reason": "disk"})
}

# Where the node is and what it is, the node decides.
test_what_only_the_node_knows_is_left_to_it if {
	training := asked("up=trainee-tim", "start", {"log": "training-1", "path": "/var/log/app/one.log", "destination": "staging", "for": "1h", "rate": "1MiB/s", "reason": "lesson 3"})
	aaasvc.allow with input as training
	aaasvc.allow with input as asked("up=trainee-tim", "start", {"log": "training-1", "reason": "x"})
	aaasvc.allow with input as asked("up=trainee-tim", "stop", {"log": "training-1", "for": "5m", "reason": "x"})
	aaasvc.allow with input as asked("up=trainee-tim", "start", {"log": "training-1", "lifts": true, "path": "/var/log/app/one.log", "reason": "x"})
	every name in ["for", "rate", "reason", "log"] {
		not aaasvc.allow with input as object.union(object.remove(training, ["data"]), {"data": object.remove(training.data, [name])})
	}
	every change in [{"collective": "other"}, {"ttl": 300}, {"time": "2026-11-28T09:00:00Z"}, {"data": {"log": "app"}}, {"data": {"rate": "2m"}}, {"data": {"reason": ""}}] {
		not aaasvc.allow with input as object.union(training, change)
	}
}

test_deny_rules_stand_above_roles if {
	everything := {"all": {"callers": {"up=all-eve": ""}, "actions": {"start", "status"}}}
	every path in ["/var/log/audit/audit.log", "/var/log/*/audit.log", "/var/**", "/var/log/audit/../x", 7] {
		aaasvc.denied == {"audit-log"} with input as asked("up=all-eve", "start", {"log": "x", "path": path}) with aaasvc.roles as everything
		not aaasvc.allow with input as asked("up=all-eve", "start", {"log": "x", "path": path}) with aaasvc.roles as everything
	}
	every path in ["/srv/x", "/srv/**", "/var/log/*", ""] {
		aaasvc.allow with input as asked("up=all-eve", "start", {"log": "x", "path": path}) with aaasvc.roles as everything
	}
	aaasvc.allow with input as asked("up=all-eve", "status", {}) with aaasvc.roles as everything
	denied := {"one": {"actions": {"start"}, "paths": {"/srv/*": "^/srv/[^/[:cntrl:]]*$"}}}
	not aaasvc.allow with input as asked("up=all-eve", "start", {"log": "x", "path": "/srv/x"}) with aaasvc.roles as everything with aaasvc.denials as denied
	aaasvc.allow with input as asked("up=all-eve", "start", {"log": "x", "path": "/srv/*/x"}) with aaasvc.roles as everything with aaasvc.denials as denied
}

test_the_audit_team_alone_has_the_audit_log if {
	audit := {"log": "audit", "path": "/var/log/audit/audit.log", "destination": "audit", "reason": "case 7"}
	aaasvc.allow with input as asked("up=audit-ann", "start", audit)
	not aaasvc.allow with input as asked("up=audit-ann", "start", object.union(audit, {"destination": "central"}))
	not aaasvc.allow with input as object.union(object.remove(asked("up=audit-ann", "start", {}), ["data"]), {"data": null})
}

test_nights if {
	night := {"from": 1320, "to": 360, "days": {"Friday"}, "zone": "Europe/Berlin"}
	roles := {"night": {"callers": {"up=x": ""}, "actions": {"status"}, "times": [night], "reason": true}}
	every time in ["2026-11-27T21:00:00Z", "2026-11-28T04:59:59Z"] {
		aaasvc.allow with input as object.union(asked("up=x", "status", {}), {"time": time}) with aaasvc.roles as roles
	}
	not aaasvc.allow with input as asked("up=x", "status", {}) with aaasvc.roles as roles
}

test_other_agents if {
	aaasvc.allow with input as {"agent": "discovery", "action": "ping"}
	aaasvc.allow with input as object.union(asked("up=x", "ping", {}), {"agent": "rpcutil"})
	not aaasvc.allow with input as object.union(asked("up=x", "machine_transition", {}), {"agent": "choria_util"})
	aaasvc.allow with input as object.union(asked("up=admin", "machine_transition", {}), {"agent": "choria_util"})
	not aaasvc.allow with input as asked("up=admin", "pause", {"log": "app"})
}
