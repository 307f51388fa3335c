# Who is called admin, and root on the node itself, may do everything; nobody else anything.
package io.choria.mcorpc.authpolicy

import rego.v1

default allow := false

allow if input.callerid in {"up=admin", "choria=admin.mcollective", "local=root"}
