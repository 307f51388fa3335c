package io.choria.mcorpc.authpolicy_test

import rego.v1

import data.io.choria.mcorpc.authpolicy

base := {"agent": "logforward", "callerid": "up=nobody", "collective": "choria", "data": {}, "facts": {"environment": "test"}, "provision_mode": false}

asked(caller, action, inputs) := object.union(base, {"callerid": caller, "action": action, "data": inputs})

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

test_on_call_pauses_for_a_while if {
	every time in ["1m", "4h", "3h60m", "240m", "90s"] {
		authpolicy.allow with input as asked("up=oncall-eve", "pause", {"log": "app", "reason": "disk", "for": time})
	}
	every time in ["241m", "4h1m", "1d", "0s", "0", "soon", "", "1h\n", "-1h", "1.5h"] {
		not authpolicy.allow with input as asked("up=oncall-eve", "pause", {"log": "app", "reason": "disk", "for": time})
	}
	not authpolicy.allow with input as asked("up=oncall-eve", "pause", {"log": "app", "reason": "disk"})
	authpolicy.allow with input as asked("up=oncall-eve", "pause", {"all": true, "reason": "disk", "for": "1h"})
	authpolicy.allow with input as asked("up=oncall-eve", "resume", {"all": true, "reason": "disk"})
}

test_on_call_says_why if {
	every reason in ["", " ", "\t"] {
		not authpolicy.allow with input as asked("up=oncall-eve", "pause", {"log": "app", "reason": reason, "for": "1h"})
	}
	not authpolicy.allow with input as asked("up=oncall-eve", "pause", {"log": "app", "for": "1h"})
}

test_on_call_does_nothing_else if {
	every action in ["start", "stop", "redirect"] {
		not authpolicy.allow with input as asked("choria=oncall-eve.mcollective", action, {"log": "app", "reason": "disk", "for": "1h"})
	}
}

test_operators_stay_within_their_paths if {
	every path in ["/var/log/nginx/access.log", "/var/log/nginx/a/b.log", "/var/log/nginx/*.log", "/var/log/app/one.log"] {
		authpolicy.allow with input as asked("up=ops-bob", "start", {"log": "app", "path": path, "destination": "central"})
	}
	every path in ["/etc/shadow", "/var/log/app/a/b.log", "/var/log/app/*.log", "/var/log/app/**", "/var/log/*", "/var/log/nginx", "/var/log/nginxx/a", "/var/log/{nginx,audit}/a", "/VAR/log/nginx/a"] {
		not authpolicy.allow with input as asked("up=ops-bob", "start", {"log": "app", "path": path, "destination": "central"})
	}
	not authpolicy.allow with input as asked("up=ops-bob", "pause", {"all": true})
	authpolicy.allow with input as asked("up=ops-bob", "pause", {"log": "app"})
}

test_operators_stay_within_their_destinations if {
	authpolicy.allow with input as asked("up=ops-bob", "redirect", {"log": "app", "destination": "staging"})
	authpolicy.allow with input as asked("up=ops-bob", "start", {"log": "app"})
	not authpolicy.allow with input as asked("up=ops-bob", "redirect", {"log": "app", "destination": "external"})
	not authpolicy.allow with input as asked("up=ops-bob", "redirect", {"log": "app"})
}

test_the_audit_team_alone_has_the_audit_log if {
	request := {"log": "audit", "path": "/var/log/audit/audit.log", "destination": "audit", "reason": "case 7"}
	authpolicy.allow with input as asked("up=audit-ann", "start", request)
	authpolicy.rule == {"audit"} with input as asked("up=audit-ann", "start", request)
	not authpolicy.allow with input as asked("up=ops-bob", "start", request)
	not authpolicy.allow with input as asked("up=audit-ann", "start", object.union(request, {"destination": "central"}))
	not authpolicy.allow with input as asked("up=audit-ann", "start", object.union(request, {"path": "/var/log/audit/"}))
	not authpolicy.allow with input as asked("up=audit-ann", "redirect", request)
}

test_nobody_sends_production_to_the_outside if {
	request := asked("up=ops-bob", "redirect", {"log": "app", "destination": "external"})
	open := {"all": {"callers": ["*"], "actions": {"redirect"}, "logs": ["a*"], "paths": [], "destinations": [], "for": 0, "reason": false}}
	authpolicy.allow with input as request with authpolicy.roles as open
	not authpolicy.allow with input as object.union(request, {"facts": {"environment": "production"}}) with authpolicy.roles as open
	not authpolicy.allow with input as object.union(request, {"data": {"log": "b"}}) with authpolicy.roles as open
}

test_nobody_changes_a_node_that_is_provisioned if {
	not authpolicy.allow with input as object.union(asked("up=oncall-eve", "pause", {"log": "app", "reason": "x", "for": "1h"}), {"provision_mode": true})
	authpolicy.allow with input as object.union(asked("up=oncall-eve", "status", {}), {"provision_mode": true})
}

test_callers_are_whole if {
	every caller in ["xup=oncall-eve", "up=Oncall-eve", "choria=oncall-eve", "up=ops", "", "*"] {
		not authpolicy.allow with input as asked(caller, "pause", {"log": "app", "reason": "x", "for": "1h"})
	}
}
