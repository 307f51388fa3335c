package io.choria.mcorpc.authpolicy_test

import rego.v1

import data.io.choria.mcorpc.authpolicy

test_everybody_looks if {
	every pair in [["rpcutil", "ping"], ["rpcutil", "inventory"], ["choria_util", "machine_states"], ["scout", "checks"]] {
		authpolicy.allow with input as {"agent": pair[0], "action": pair[1], "callerid": "up=anybody"}
	}
}

test_administrators_do if {
	every caller in ["up=admin", "choria=admin-1.mcollective"] {
		authpolicy.allow with input as {"agent": "choria_util", "action": "machine_transition", "callerid": caller}
	}
}

test_others_do_not if {
	not authpolicy.allow with input as {"agent": "choria_util", "action": "machine_transition", "callerid": "up=anybody"}
	not authpolicy.allow with input as {"agent": "other", "action": "ping", "callerid": "up=administrator"}
	not authpolicy.allow with input as {"agent": "rpcutil", "action": "get_data"}
	not authpolicy.allow with input as {"action": "ping", "callerid": "up=admin"}
}

# Where logforward.rego is missing, this one is asked for it.
test_not_for_logforward if {
	not authpolicy.allow with input as {"agent": "logforward", "action": "status", "callerid": "up=admin"}
}
