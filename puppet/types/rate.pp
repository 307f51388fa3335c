# @summary Bytes per second, as the program reads them: `5MiB/s`, `800kB/s`, `1048576` or `unlimited`
type Mcollective_agent_logforward::Rate = Variant[Integer[0], Pattern[/\A(unlimited|\d+(\.\d+)? *([kKmMgGtT]([iI]?[bB])?|[bB])?(\/s)?)\z/]]
