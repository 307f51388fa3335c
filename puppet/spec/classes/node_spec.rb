require_relative '../spec_helper'

describe 'mcollective_agent_logforward' do
  let(:facts) { { 'os' => { 'family' => 'Debian', 'name' => 'Debian' }, 'path' => '/usr/bin:/bin' } }
  let(:pre_condition) { 'include mcollective; include choria' }
  let(:node) { 'n1.example.net' }

  cfg = '/etc/choria/plugin.d/logforward.cfg'

  context 'with nothing said' do
    it { is_expected.to compile.with_all_deps }
    it { is_expected.to contain_package('logforward').with_ensure('installed') }
    it { is_expected.to contain_file(cfg).with_content("# Managed by Puppet.\n").with_mode('0644') }
    it('runs no daemon') { is_expected.to contain_service('logforward-forward').with(ensure: 'stopped', enable: false) }
    it { is_expected.to contain_file('/opt/puppetlabs/mcollective/plugins/mcollective/agent/logforward').with(ensure: 'link', target: '/usr/bin/logforward') }
    it { is_expected.to contain_file('/etc/choria/machine/logforward').with(ensure: 'link', target: '/usr/share/logforward/machine/logforward') }
    it { is_expected.not_to contain_file('/etc/choria/policies/rego/logforward.rego') }
    it('leaves settings out of the plugin, whose changes restart Choria Server') do
      is_expected.to contain_mcollective__module_plugin('mcollective_agent_logforward').with(config_name: 'logforward', config: {})
    end
  end

  context 'with all of a node' do
    let(:params) do
      {
        settings: { 'rate' => '5MiB/s', 'allowed_paths' => ['/var/log/**', '/srv/*/log/*'], 'metrics_listen' => '127.0.0.1:9090' },
        destinations: { 'central' => { 'choria' => '/etc/choria/server.conf' }, 'audit' => { 'url' => 'tls://audit:4222', 'compression' => 'zstd' } },
        forwarders: { 'nginx-access' => { 'path' => '/var/log/nginx/access.log', 'destination' => 'central', 'rate' => '1MiB/s' }, 'gone' => { 'path' => '/x', 'ensure' => 'absent' } },
        operators: { 'version' => 1, 'roles' => { 'reader' => { 'callers' => ['*'], 'actions' => ['status'] } } },
        scout_check: true,
      }
    end

    it { is_expected.to compile.with_all_deps }
    it do
      is_expected.to contain_file(cfg).with_mode('0644').with_content(<<~CFG).with_validate_cmd('/usr/bin/logforward config --for forward --config % > /dev/null')
        # Managed by Puppet.
        allowed_paths = /var/log/**, /srv/*/log/*
        destination.audit.compression = zstd
        destination.audit.url = tls://audit:4222
        destination.central.choria = /etc/choria/server.conf
        metrics_listen = 127.0.0.1:9090
        rate = 5MiB/s
      CFG
    end
    it { is_expected.to contain_service('logforward-forward').with(ensure: 'running', enable: true).that_subscribes_to("File[#{cfg}]") }
    it do
      is_expected.to contain_file('/etc/choria/logforward/forwarders.d/nginx-access.yaml').with_content(<<~YAML)
        # Managed by Puppet.
        destination: "central"
        log: "nginx-access"
        path: "/var/log/nginx/access.log"
        rate: "1MiB/s"
        start: "end"
      YAML
    end
    it { is_expected.to contain_file('/etc/choria/logforward/forwarders.d/gone.yaml').with_ensure('absent') }
    it('restarts nothing for a definition') do
      is_expected.not_to contain_file('/etc/choria/logforward/forwarders.d/nginx-access.yaml').that_notifies('Service[logforward-forward]')
    end
    it { is_expected.to contain_file('/etc/choria/logforward/operators.yaml').with_content(/"reader": \{/) }
    it do
      is_expected.to contain_exec('logforward policy render').with_unless("/usr/bin/logforward policy render '/etc/choria/logforward/operators.yaml' | cmp -s - '/etc/choria/policies/rego/logforward.rego'")
                                                             .that_comes_before('Service[logforward-forward]')
    end
    it { is_expected.to contain_choria__scout_check('logforward_check').with(plugin: '/usr/bin/logforward', arguments: 'check') }
  end

  context 'with a password' do
    let(:params) { { destinations: { 'central' => { 'url' => 'nats://x', 'user' => 'n1', 'password' => sensitive('hunter2') } } } }

    it('lets nobody else read it') { is_expected.to contain_file(cfg).with_mode('0640').with_content(sensitive("# Managed by Puppet.\ndestination.central.password = hunter2\ndestination.central.url = nats://x\ndestination.central.user = n1\n")) }
  end

  context 'with a password in a URL' do
    let(:params) { { destinations: { 'central' => { 'url' => 'nats://n1:hunter2@x' } } } }

    it('lets nobody else read it') { is_expected.to contain_file(cfg).with_mode('0640').with_content(sensitive("# Managed by Puppet.\ndestination.central.url = nats://n1:hunter2@x\n")) }
  end

  context 'with a secret in a list' do
    let(:params) { { config: { 'x' => ['a', sensitive('b')] } } }

    it('lets nobody else read it') { is_expected.to contain_file(cfg).with_mode('0640').with_content(sensitive("# Managed by Puppet.\nx = a, b\n")) }
  end

  context 'with definitions elsewhere' do
    let(:params) { { config_dir: '/etc/lf', destinations: { 'central' => { 'url' => 'nats://x' } }, forwarders: { 'a' => { 'path' => '/var/log/a' } } } }

    it { is_expected.to contain_file('/etc/lf/forwarders.d/a.yaml') }
    it('tells the daemon') do
      is_expected.to contain_file(cfg).with_content("# Managed by Puppet.\ndestination.central.url = nats://x\nformer = /etc/lf/former\nforwarders = /etc/lf/forwarders.d\nstaged = /etc/lf/staged\n")
    end
  end

  context 'with definitions where a setting says' do
    let(:params) { { settings: { 'forwarders' => '/srv/forwarders', 'staged' => '' }, forwarders: { 'a' => { 'path' => '/var/log/a' } } } }

    it { is_expected.to contain_file('/srv/forwarders/a.yaml') }
  end

  context 'with a password in a URL, and one in a list' do
    let(:params) { { destinations: { 'a' => { 'url' => sensitive('nats://u:hunter2@x') } }, config: { 'destination.b.url' => [sensitive('nats://b'), 'nats://c'] } } }

    it { is_expected.to contain_file(cfg).with_mode('0640').with_content(sensitive("# Managed by Puppet.\ndestination.a.url = nats://u:hunter2@x\ndestination.b.url = nats://b, nats://c\n")) }
  end

  context 'when nothing is laid ready any more' do
    it('takes away what Puppet laid, and nobody else’s') do
      is_expected.to contain_exec('logforward staged by Puppet').with(
        command: "cd '/etc/choria/logforward/staged' && rm -rf logforward.cfg forwarders.d operators.yaml logforward.rego && rmdir --ignore-fail-on-non-empty '/etc/choria/logforward/staged'",
        onlyif: "grep -qs '^# Managed by Puppet' '/etc/choria/logforward/staged'/logforward.cfg",
      )
    end
  end

  context 'with a place for what is staged that a shell would misread' do
    let(:params) { { settings: { 'staged' => "/srv/it's; touch x" } } }

    it { is_expected.to contain_exec('logforward staged by Puppet').with_onlyif("grep -qs '^# Managed by Puppet' '/srv/it'\\''s; touch x'/logforward.cfg").with_command(/\Acd '\/srv\/it'\\''s; touch x' && /) }
  end

  paths = '/etc/systemd/system/logforward-forward.service.d/paths.conf'

  context 'with a daemon that is to write elsewhere' do
    let(:params) do
      { settings: { 'state' => "/srv/it's", 'wishes' => '', 'audit_log' => '/srv/audit/decisions.log', 'socket' => '/run/lf/socket' }, destinations: { 'central' => { 'url' => 'nats://x' } } }
    end

    it { is_expected.to compile.with_all_deps }
    it { is_expected.to contain_file(paths).with_content(%Q(# Managed by Puppet.\n[Service]\nReadWritePaths="/srv/it's"\nReadWritePaths="/srv/audit"\nReadWritePaths="-/run/lf"\n)) }
    it { is_expected.to contain_file(paths).that_notifies('Service[logforward-forward]') }
    it('leaves the additions of others alone') { is_expected.to contain_file(File.dirname(paths)).with_ensure('directory').without_purge.without_recurse }
    it do
      is_expected.to contain_exec("logforward directory /srv/it's").with(creates: "/srv/it's", command: %q(install -d -m 0700 -o logforward -g logforward -- '/srv/it'\\''s'))
                                                                  .that_comes_before("File[#{paths}]").that_requires('Package[logforward]')
    end
    it { is_expected.to contain_exec('logforward directory /srv/audit') }
    it { is_expected.not_to contain_exec('logforward directory /run/lf') }
  end

  context 'with a daemon that writes where the package has it' do
    let(:params) { { settings: { 'state' => '/var/lib/logforward/forward', 'audit_log' => '/var/log/logforward/audit.log', 'socket' => '/run/logforward/forward.sock' } } }

    it { is_expected.to contain_file(paths).with_ensure('absent') }
    it('leaves the additions of others alone') { is_expected.not_to contain_file(File.dirname(paths)) }
  end

  context 'when it is to go from a directory that is others’, too' do
    let(:params) { { ensure: 'absent', config_dir: '/etc/choria', purge_forwarders: false, forwarders: { 'a' => { 'path' => '/var/log/a' } }, operators: { 'version' => 1 } } }

    it { is_expected.to compile.with_all_deps }
    it { is_expected.not_to contain_file('/etc/choria') }
    it { is_expected.not_to contain_file('/etc/choria/forwarders.d') }
    it { is_expected.to contain_file('/etc/choria/forwarders.d/a.yaml').with_ensure('absent') }
    it { is_expected.to contain_file('/etc/choria/operators.yaml').with_ensure('absent') }
    it { is_expected.to contain_file(paths).with_ensure('absent') }
  end

  it('has the agent’s program before its description') do
    is_expected.to contain_file('/opt/puppetlabs/mcollective/plugins/mcollective/agent/logforward').that_comes_before('File[/opt/puppetlabs/mcollective/plugins/mcollective/agent/logforward.json]')
  end

  context 'with config as other agents take it' do
    let(:params) { { config: { 'rate' => '1MiB/s', 'destination.a.url' => 'nats://a' }, server_config: { 'rate' => '2MiB/s' }, settings: { 'rate' => '3MiB/s' } } }

    it { is_expected.to contain_file(cfg).with_content("# Managed by Puppet.\ndestination.a.url = nats://a\nrate = 2MiB/s\n") }
    it { is_expected.to contain_service('logforward-forward').with_ensure('running') }
  end

  context 'when it lays a change ready' do
    let(:params) { { staging: true, destinations: { 'central' => { 'url' => 'nats://x' } }, forwarders: { 'a' => { 'path' => '/var/log/a' } } } }

    it { is_expected.to contain_file('/etc/choria/logforward/staged/logforward.cfg') }
    it { is_expected.to contain_file('/etc/choria/logforward/staged/forwarders.d/a.yaml') }
    it { is_expected.not_to contain_file(cfg) }
    it { is_expected.not_to contain_service('logforward-forward') }
    it { is_expected.not_to contain_exec('logforward staged by Puppet') }
  end

  context 'when it is to go' do
    let(:params) { { ensure: 'absent', destinations: { 'central' => { 'url' => 'nats://x' } }, forwarders: { 'a' => { 'path' => '/var/log/a' } }, rego_policy_source: 'puppet:///modules/site/x.rego' } }

    it { is_expected.to compile.with_all_deps }
    [cfg, '/etc/choria/logforward', '/etc/choria/logforward/forwarders.d/a.yaml', '/etc/choria/policies/rego/logforward.rego', '/etc/choria/machine/logforward',
     '/opt/puppetlabs/mcollective/plugins/mcollective/agent/logforward'].each do |file|
      it { is_expected.to contain_file(file).with_ensure('absent') }
    end
    it { is_expected.to contain_service('logforward-forward').with(ensure: 'stopped', enable: false).that_comes_before('Package[logforward]') }
    it { is_expected.to contain_package('logforward').with_ensure('absent') }
  end

  context 'on an operator’s machine' do
    let(:pre_condition) { 'class { mcollective: server => false, client => true }' }

    it { is_expected.to compile.with_all_deps }
    it { is_expected.to contain_file('/opt/puppetlabs/mcollective/plugins/mcollective/agent/logforward.ddl') }
    it { is_expected.not_to contain_package('logforward') }

    context 'with settings' do
      let(:params) { { client_config: { 'rate' => '1MiB/s' } } }

      it { is_expected.to contain_file(cfg).with_mode('0644').with_content("# Managed by Puppet.\nrate = 1MiB/s\n") }
    end

    context 'with a password' do
      let(:params) { { client_config: { 'token' => 'hunter2' } } }

      it('lets nobody else read it') { is_expected.to contain_file(cfg).with_mode('0640').with_content(sensitive("# Managed by Puppet.\ntoken = hunter2\n")) }
    end
  end

  {
    'a setting that there isn’t' => { settings: { 'rotate_sise' => '1' } },
    'a value out of its range' => { settings: { 'chunk_size' => 17 } },
    'a second line' => { settings: { 'identity' => "a\ndestination.evil.url = nats://evil" } },
    'a second line in config' => { config: { 'identity' => "a\nb" } },
    'a second line in a name' => { config: { "rate = 1\ndestination.evil.url" => 'nats://evil' } },
    'a value that is neither one nor a list' => { config: { 'rate' => { 'a' => 1 } } },
    'a password that a line can’t tell' => { destinations: { 'a' => { 'url' => 'nats://x', 'password' => ' hunter2' } } },
    'a directory that a shell would misread' => { config_dir: "/etc/it's" },
    'a path that isn’t absolute' => { forwarders: { 'a' => { 'path' => 'x' } } },
    'a log that leaves its directory' => { forwarders: { '../a' => { 'path' => '/x' } } },
    'a rate that the program would refuse' => { forwarders: { 'a' => { 'path' => '/x', 'rate' => '1PiB/s' } } },
    'a unit that leaves its directory' => { service_name: '../x' },
    'a field that there isn’t' => { forwarders: { 'a' => { 'path' => '/x', 'url' => 'nats://evil' } } },
    'a destination’s setting that there isn’t' => { destinations: { 'a' => { 'uri' => 'x' } } },
    'two policies' => { operators: {}, rego_policy_source: 'puppet:///x' },
  }.each do |what, bad|
    context "with #{what}" do
      let(:params) { bad }

      it { is_expected.not_to compile }
    end
  end
end
