package io.choria.mcorpc.authpolicy_test

import rego.v1

import data.io.choria.mcorpc.authpolicy

test_everybody_looks if {
	every pair in [["rpcutil", "ping"], ["choria_util", "machine_states"], ["scout", "checks"]] {
		authpolicy.allow with input as {"agent": pair[0], "action": pair[1], "callerid": "up=anybody"}
	}
}

test_administrators_do if {
	authpolicy.allow with input as {"agent": "choria_util", "action": "machine_transition", "callerid": "up=admin"}
}

test_others_do_not if {
	not authpolicy.allow with input as {"agent": "choria_util", "action": "machine_transition", "callerid": "up=anybody"}
	not authpolicy.allow with input as {"agent": "other", "action": "ping", "callerid": "up=administrator"}
}
