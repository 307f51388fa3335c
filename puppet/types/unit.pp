# @summary The name of a systemd unit, without .service
type Mcollective_agent_logforward::Unit = Pattern[/\A[A-Za-z0-9:_.@-]+\z/]
