# @summary An absolute path that means itself in a shell, in a unit and in Puppet's own templates of commands
type Mcollective_agent_logforward::Place = Pattern[/\A\/[A-Za-z0-9\/._+@:,-]*\z/]
