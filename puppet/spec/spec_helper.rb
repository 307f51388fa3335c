require 'rspec-puppet'
require 'tmpdir'
require 'fileutils'

# The module path is made anew: this module under its own name, and what stands in for those that it needs.
module_path = Dir.mktmpdir('modules')
root = File.expand_path('..', __dir__)
File.symlink(root, File.join(module_path, 'mcollective_agent_logforward'))
Dir.glob(File.join(root, 'spec/fixtures/stubs/*/')).each do |stub|
  File.symlink(stub.chomp('/'), File.join(module_path, File.basename(stub)))
end

RSpec.configure do |c|
  c.module_path = module_path
  c.after(:suite) { FileUtils.remove_entry(module_path) }
end
