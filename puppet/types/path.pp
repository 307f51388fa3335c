# @summary An absolute path that stays on its line
type Mcollective_agent_logforward::Path = Pattern[/\A\/[^\r\n\0]*\z/]
