# @summary The name of a user or a group
type Mcollective_agent_logforward::Account = Pattern[/\A[A-Za-z0-9_][A-Za-z0-9._@-]*\z/]
