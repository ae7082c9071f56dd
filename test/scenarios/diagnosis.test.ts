// Faults that are set for real, one by one, and the command that has to name each of them with its fix within its first
// three lines. The table is the list of faults that `meshctl doctor` and `meshctl why` are known to name.
import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'
import type { PingAnswer } from '../../src/api/diagnosis-answers.ts'
import { podCidr, wanAddress } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { inStep, peer, raise, reaches, unite } from './harness.ts'

const WEB = 'web.shop.svc.cluster.east:80'
const LINES = 3

describe('diagnosis', function () {
  // Over TCP a tunnel without UDP is no fault of its cluster; paths.test.ts has what is said then.
  const { site, world } = raise('diagnosis', ['west', 'east'], { flags: ['--tcp-path-rate', '0'] })
  const west = () => site('west')
  const exec = (...argv: readonly string[]) => west().gateway.exec(argv)
  const inEast = (...argv: readonly string[]) => site('east').gateway.exec(argv)
  const inWan = async (...argv: readonly string[]) => (await world().lab.namespace('wan')).exec(argv)
  const nft = (on: 'west' | 'east', input: string) => site(on).gateway.exec(['nft', '-f', '-'], { input })
  const without = (on: 'west' | 'east', table: string) =>
    site(on).gateway.exec(['nft', 'delete', 'table', ...table.split(' ')])
  /** The public key of east's tunnel, as west knows it. */
  const keyOfEast = async (): Promise<string> =>
    (await exec('wg', 'show', west().device, 'peers')).stdout.trim()

  /** Another program of west that does this again and again, whatever the agent does against it. */
  let rival: ChildProcess | undefined
  const fights = async (command: string): Promise<void> => {
    rival = west().gateway.spawn(['sh', '-c', `while :; do ${command}; sleep 0.05; done`], {
      stdio: 'ignore'
    })
  }
  const ended = async (): Promise<void> => {
    const child = rival
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
    const gone = once(child, 'exit')
    child.kill('SIGKILL')
    await gone
  }

  const restart = async (...flags: readonly string[]): Promise<void> => {
    await west().stop('SIGTERM')
    await west().start(...flags)
  }

  before(async () => {
    await unite(west(), site('east'))
    await works()
  })

  /** Nothing is left of a fault: a pod of west reaches east, and the examination finds no fault. */
  async function works(): Promise<void> {
    await reaches(west(), site('east'), 120_000)
    await eventually(async () => (await peer(west(), 'east'))?.state === 'up', 60_000)
    await inStep(west())
    await eventually(async () => {
      const { exitCode, stdout } = await west().ctl('doctor')
      assert.equal(exitCode, 0, stdout)
      return true
    }, 120_000)
  }

  it('pings the other cluster through the tunnel', async () => {
    const { verdict, gateways } = await west().ask<PingAnswer>('ping', 'east', '-c', '10', '-i', '0.05')
    assert.equal(verdict, 'answered')
    const [row] = gateways
    assert.deepEqual(
      [row?.tunnel, row?.path, row?.sent, row?.received, row?.lossPercent, row?.address],
      ['up', 'direct', 10, 10, 0, '10.2.0.1']
    )
    assert.equal(row?.endpoint, `${wanAddress('east')}:51820`)
    assert.ok((row?.rtt?.min ?? 0) > 0 && (row?.rtt?.min ?? 0) <= (row?.rtt?.max ?? 0))
    const { exitCode, stderr } = await west().ctl('ping', 'west')
    assert.equal(exitCode, 5)
    assert.match(stderr, /no tunnel leads to it/)
    assert.match((await west().ctl('ping', 'nowhere')).stderr, /no cluster "nowhere"/)
  })

  const cases: readonly {
    readonly fault: string
    readonly inject: () => Promise<unknown>
    readonly undo: () => Promise<unknown>
    readonly command: readonly string[]
    /** The code or the check of the first finding, or the stop. */
    readonly code: string
    readonly says: RegExp
    readonly fix: RegExp
  }[] = [
    {
      fault: 'UDP of the tunnel is dropped on the way',
      inject: async () => {
        await inWan('nft', 'add', 'table', 'bridge', 'path')
        await inWan('nft', 'add chain bridge path in { type filter hook forward priority 0; }')
        await inWan('nft', 'add', 'rule', 'bridge', 'path', 'in', 'udp', 'dport', '51820', 'drop')
      },
      undo: () => inWan('nft', 'delete', 'table', 'bridge', 'path'),
      command: ['doctor'],
      code: 'CLUSTER_DOWN',
      says: /UDP 51820 to 203\.0\.113\.12 gets no answer; TCP control works/,
      fix: /let UDP 51820 pass between this host and 203\.0\.113\.12 in both directions/
    },
    {
      fault: 'the same, as ping sees it',
      inject: () => nft('east', DEAF),
      undo: () => without('east', 'inet deaf'),
      command: ['ping', 'east', '-c', '2'],
      code: 'down',
      says: /None of 2 packets to east came back\nthe tunnel to east-gw is down: no answer through the tunnel/,
      fix: /let UDP 51820 pass/
    },
    {
      fault: 'a link on the way carries 1,300 bytes and sends no ICMP',
      inject: () => inWan('ip', 'link', 'set', 'east', 'mtu', '1300'),
      undo: () => inWan('ip', 'link', 'set', 'east', 'mtu', '1500'),
      command: ['doctor'],
      code: 'PATH_MTU',
      says: /not even 1280 bytes pass through the tunnel/,
      fix: /raise the MTU of the links between the hosts to at least 1360/
    },
    {
      fault: 'forwarding is switched off',
      inject: () => fights('sysctl -qw net.ipv4.ip_forward=0'),
      undo: ended,
      command: ['doctor'],
      code: 'drift',
      says: /net\.ipv4\.ip_forward is 0, and should be 1/,
      fix: /sysctl\.d/
    },
    {
      fault: 'strict reverse path filtering on the tunnel',
      inject: () => fights(`sysctl -qw net.ipv4.conf.${west().device}.rp_filter=1`),
      undo: ended,
      command: ['drift'],
      code: 'sysctls',
      says: /rp_filter is 1, and should be 2/,
      fix: /sysctl\.d/
    },
    {
      fault: 'a routing rule of another program before ours',
      inject: async () => {
        await exec('ip', 'route', 'add', 'default', 'dev', 'wan0', 'table', '777')
        await exec('ip', 'rule', 'add', 'pref', '100', 'to', '10.0.0.0/8', 'lookup', '777')
      },
      undo: async () => {
        await exec('ip', 'rule', 'del', 'pref', '100')
        await exec('ip', 'route', 'flush', 'table', '777')
      },
      command: ['doctor'],
      code: 'ROUTED_ELSEWHERE',
      says: /packets to cluster east do not go into the tunnel: .* goes to wan0/,
      fix: /move that rule behind 5142/
    },
    {
      fault: 'a route of this host to the pods of the other cluster',
      inject: () => exec('ip', 'route', 'add', podCidr('east'), 'dev', 'wan0'),
      undo: () => exec('ip', 'route', 'del', podCidr('east'), 'dev', 'wan0'),
      command: ['doctor'],
      code: 'PREFIX_OVERLAP',
      says: /10\.2\.0\.0\/16 of cluster east overlaps 10\.2\.0\.0\/16 on wan0/,
      fix: /remove or renumber that network or route/
    },
    {
      fault: 'a bridge of containers with addresses of the other cluster',
      inject: async () => {
        await exec('ip', 'link', 'add', 'docker9', 'type', 'bridge')
        await exec('ip', 'address', 'add', '10.2.0.254/24', 'dev', 'docker9')
        await exec('ip', 'link', 'set', 'docker9', 'up')
      },
      undo: () => exec('ip', 'link', 'del', 'docker9'),
      command: ['doctor'],
      code: 'PREFIX_OVERLAP',
      says: /overlaps 10\.2\.0\.0\/24 on docker9/,
      fix: /remove or renumber that network/
    },
    {
      fault: 'a masquerade of another program before ours',
      inject: () =>
        nft(
          'west',
          'table ip nat9 {\n chain post {\n type nat hook postrouting priority 80;\n ip saddr 10.1.0.0/16 masquerade\n }\n}\n'
        ),
      undo: () => without('west', 'ip nat9'),
      command: ['doctor'],
      code: 'SOURCE_TRANSLATED',
      says: /translates the source of packets from pods into the tunnel, .*nat9/,
      fix: /except packets out of rz\w+ from that rule/
    },
    {
      fault: 'a rule that sends the packets of the tunnel to another address',
      inject: () =>
        nft(
          'west',
          'table ip nat9 {\n chain pre {\n type nat hook prerouting priority -100;\n udp dport 51820 dnat to 10.9.9.9\n }\n}\n'
        ),
      undo: () => without('west', 'ip nat9'),
      command: ['doctor'],
      code: 'PORT_REDIRECTED',
      says: /sends packets for UDP 51820, the port of meshd, to another destination: .*nat9/,
      fix: /remove that rule, or give it another port/
    },
    {
      fault: 'a policy of this host that drops what comes in',
      inject: () => exec('iptables-nft', '-P', 'INPUT', 'DROP'),
      undo: () => exec('iptables-nft', '-P', 'INPUT', 'ACCEPT'),
      command: ['doctor'],
      code: 'PORT_DROPPED',
      says: /drops new packets for UDP 51820, the port of meshd: the policy of chain INPUT/,
      fix: /iptables -I INPUT -p udp --dport 51820 -j ACCEPT \(ufw allow 51820\/udp\)/
    },
    {
      fault: 'a rule of this host that drops UDP that goes out',
      inject: () => exec('iptables-nft', '-A', 'OUTPUT', '-p', 'udp', '--dport', '51820', '-j', 'DROP'),
      undo: () => exec('iptables-nft', '-D', 'OUTPUT', '-p', 'udp', '--dport', '51820', '-j', 'DROP'),
      command: ['doctor'],
      code: 'PORT_DROPPED',
      says: /drops packets that go out to UDP 51820, the WireGuard of members: .*chain OUTPUT/,
      fix: /iptables -I OUTPUT -p udp --dport 51820 -j ACCEPT/
    },
    {
      fault: 'the upstream DNS server is dead',
      inject: () => restart('--dns-upstream', '203.0.113.99:53'),
      undo: () => restart(),
      command: ['doctor'],
      code: 'upstream-dns',
      says: /no upstream server answers/,
      fix: /check the servers of the setting dns-upstream/
    },
    {
      fault: 'the clock of this host is a year ahead',
      inject: async () => {
        await west().stop('SIGTERM')
        const clock = `NODE_OPTIONS=--import=${join(import.meta.dirname, 'shifted-clock.ts')}`
        await west().startUnder(['env', clock, `CLOCK_SHIFT_MS=${365 * 86_400_000}`])
      },
      undo: () => restart(),
      command: ['doctor'],
      code: 'clock',
      says: /the clock of cluster east is 36\d days behind that of this host, so one of the two is wrong/,
      fix: /timedatectl set-ntp true/
    },
    {
      fault: 'a tool is missing on this host',
      inject: async () => {
        await west().stop('SIGTERM')
        await west().startUnder(['env', `PATH=${toolsWithout('wg', west().folder)}`])
      },
      undo: () => restart(),
      command: ['doctor'],
      code: 'DATAPLANE_OFF',
      says: /\bwg\b/,
      fix: /wireguard-tools/
    },
    {
      fault: 'a policy of this host that drops forwarded packets',
      inject: () => exec('iptables-nft', '-P', 'FORWARD', 'DROP'),
      undo: () => exec('iptables-nft', '-P', 'FORWARD', 'ACCEPT'),
      command: ['doctor'],
      code: 'FORWARD_DROPPED',
      says: /drops packets .*policy of chain FORWARD/,
      fix: /iptables -I FORWARD/
    },
    {
      fault: 'the WireGuard peer was deleted',
      inject: async () => fights(`wg set ${west().device} peer ${await keyOfEast()} remove`),
      undo: ended,
      command: ['doctor'],
      code: 'drift',
      says: /the WireGuard peer \S+ at 203\.0\.113\.12:51820 is missing, so nothing goes to .*10\.2\.0\.0\/16/,
      fix: /another program of this host changes it/
    },
    {
      fault: 'the key of the peer was replaced',
      inject: async () => {
        const secret = (await exec('wg', 'genkey')).stdout
        const other = (await west().gateway.exec(['wg', 'pubkey'], { input: secret })).stdout.trim()
        const to = `endpoint ${wanAddress('east')}:51820 allowed-ips ${podCidr('east')}`
        const key = await keyOfEast()
        await fights(`wg set ${west().device} peer ${key} remove peer ${other} ${to}`)
      },
      undo: ended,
      command: ['doctor'],
      code: 'drift',
      says: /the WireGuard peer \S+ at 203\.0\.113\.12:51820 is missing/,
      fix: /`wg show` show/
    },
    {
      fault: 'the table of the filter was deleted',
      inject: () => fights('nft delete table inet rhizome-filter'),
      undo: ended,
      command: ['doctor'],
      code: 'drift',
      says: /the packet filter of the mesh is missing/,
      fix: /`nft monitor` names the process/
    },
    {
      fault: 'the device of the tunnel was switched off',
      inject: () => fights(`ip link set ${west().device} down`),
      undo: ended,
      command: ['doctor'],
      code: 'drift',
      says: /the tunnel device rz\w+ is down/,
      fix: /`ip monitor link`/
    },
    {
      fault: 'the route into the tunnel was deleted',
      inject: () => fights('ip route flush table 5142'),
      undo: ended,
      command: ['doctor'],
      code: 'drift',
      says: /the route to 10\.2\.0\.0\/16 is missing/,
      fix: /`ip monitor route rule`/
    },
    {
      fault: 'a route of another program in the table of the agent',
      inject: () =>
        exec('ip', 'route', 'add', 'blackhole', '10.2.0.0/24', 'table', '5142', 'proto', 'static'),
      undo: () => exec('ip', 'route', 'del', 'blackhole', '10.2.0.0/24', 'table', '5142'),
      command: ['doctor'],
      code: 'ROUTED_ELSEWHERE',
      says: /another program has put a route into the routing table of this agent.*blackhole 10\.2\.0\.0\/24/,
      fix: /ip route delete blackhole 10\.2\.0\.0\/24 table 5142/
    },
    {
      fault: 'questions to the DNS responder are dropped',
      inject: () =>
        nft(
          'west',
          'table inet mute {\n chain out {\n type filter hook output priority -400;\n udp dport 53 drop\n }\n}\n'
        ),
      undo: () => without('west', 'inet mute'),
      command: ['doctor'],
      code: 'dns',
      says: /the responder does not answer over UDP/,
      fix: /drops or redirects UDP port 53/
    },
    {
      fault: 'no program listens at the endpoints',
      inject: () =>
        nft(
          'east',
          'table inet dead9 {\n chain through {\n type filter hook forward priority -10;\n tcp dport 8080 reject with tcp reset\n }\n}\n'
        ),
      undo: () => without('east', 'inet dead9'),
      command: ['why', WEB],
      code: 'connection',
      says: /It ends at the stop connection: .* was refused/,
      fix: /no program listens at the port of the endpoint/
    },
    {
      fault: 'a policy of the other cluster drops the connections',
      inject: () =>
        nft(
          'east',
          'table inet guard9 {\n chain through {\n type filter hook forward priority -10;\n ip saddr 10.1.0.0/16 tcp dport 8080 drop\n }\n}\n'
        ),
      undo: () => without('east', 'inet guard9'),
      command: ['why', WEB],
      code: 'connection',
      says: /It ends at the stop connection: .* was not answered within 3 s/,
      fix: /look for a NetworkPolicy or a firewall at the endpoint/
    },
    {
      fault: 'the uplink of the other host is down',
      inject: () => inEast('ip', 'link', 'set', 'wan0', 'down'),
      undo: () => inEast('ip', 'link', 'set', 'wan0', 'up'),
      command: ['doctor'],
      code: 'CLUSTER_DOWN',
      says: /203\.0\.113\.12 answers .*neither by UDP nor by TCP/,
      fix: /check (that the host|the route and the firewalls)/
    }
  ]
  for (const { fault, inject, undo, command, code, says, fix } of cases)
    it(`${fault}: ${command[0]} names it`, async () => {
      await inject()
      try {
        await eventually(async () => {
          const [name = '', ...args] = command
          const { stdout, stderr } = await west().ctl(name, ...args, '-o', 'wide')
          const first = stdout.split('\n').slice(0, LINES).join('\n')
          assert.match(first, says, `${stdout}${stderr}`)
          assert.match(first, fix, stdout)
          assert.match(first, new RegExp(`\\b${code}\\b`), stdout)
          return true
        }, 120_000)
      } finally {
        await undo()
      }
      await works()
    }).timeout(0)
})

/** A folder with links to all programs of this machine but one, for a PATH. */
function toolsWithout(missing: string, folder: string): string {
  const path = join(folder, `without-${missing}`)
  rmSync(path, { recursive: true, force: true })
  mkdirSync(path)
  for (const from of [
    dirname(process.execPath),
    ...(process.env['PATH'] ?? '').split(':'),
    '/usr/sbin',
    '/sbin'
  ])
    for (const name of existsSync(from) ? readdirSync(from) : [])
      if (name !== missing && !existsSync(join(path, name))) symlinkSync(join(from, name), join(path, name))
  return path
}

/** UDP of the tunnel does not come in. */
const DEAF =
  'table inet deaf {\n chain in {\n type filter hook input priority -400;\n udp dport 51820 drop\n }\n}\n'
