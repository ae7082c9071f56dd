// Twenty faults that operators meet, in one mesh: each is set for real, named by a command with its fix, removed, and gone
// from the answer of that command. Twelve of them were set first by an engineer who had not written the diagnosis.
// docs/diagnosis.md has the same list for readers. Faults that need a restart of an agent are in diagnosis.test.ts.
import assert from 'node:assert/strict'
import { rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { podCidr } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { fault as standing, inStep, onPath, raise, reaches, unite } from './harness.ts'

interface Row {
  readonly fault: string
  readonly set: () => Promise<unknown>
  readonly unset: () => Promise<unknown>
  readonly command: readonly string[]
  /** The code of the fault in `meshctl status`, waited for first since a look at it is cheap; absent: the command finds it. */
  readonly code?: string
  readonly says: RegExp
  readonly fix: RegExp
}

const SET_MS = 180_000

describe('twenty faults', function () {
  const { site, world } = raise('twenty', ['west', 'east'])
  const west = () => site('west')
  const exec = (...argv: readonly string[]) => west().gateway.exec(argv)
  const onWan = async (...argv: readonly string[]) => (await world().lab.namespace('wan')).exec(argv)

  /** A table of another program of west, with one base chain and one rule. */
  const rule = (type: string, text: string, family = 'inet') => ({
    set: () =>
      west().gateway.exec(['nft', '-f', '-'], {
        input: `table ${family} other {\n chain c {\n type ${type};\n ${text}\n }\n}\n`
      }),
    unset: () => exec('nft', 'delete', 'table', family, 'other')
  })
  /** A firewall between the hosts that drops what matches. */
  const between = (match: string) => ({
    set: async () => {
      await onWan('nft', 'add', 'table', 'bridge', 'path')
      await onWan('nft', 'add chain bridge path in { type filter hook forward priority 0; }')
      await onWan('nft', `add rule bridge path in ${match} drop`)
    },
    unset: () => onWan('nft', 'delete', 'table', 'bridge', 'path')
  })
  /** A command of `ip` on west, and the one that undoes it. */
  const ip = (set: string, unset: string) => ({
    set: () => exec('ip', ...set.split(' ')),
    unset: () => exec('ip', ...unset.split(' '))
  })
  /** A further service of east. `port` undefined: it has no endpoint. */
  const service = (name: string, address: string, port?: number) => {
    const file = () => join(site('east').manifests, `${name}.yaml`)
    const slice = `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: ${name}-1, namespace: shop, labels: { kubernetes.io/service-name: ${name} } }
addressType: IPv4
ports: [{ name: http, port: ${port} }]
endpoints: [{ addresses: [10.2.0.11], conditions: { ready: true } }]
`
    const object = `apiVersion: v1
kind: Service
metadata: { name: ${name}, namespace: shop }
spec: { clusterIP: ${address}, ports: [{ name: http, port: 80 }] }
`
    return {
      set: async () => writeFileSync(file(), port === undefined ? object : `${object}${slice}`),
      unset: async () => rmSync(file())
    }
  }
  const links = async (state: 'up' | 'down') => {
    for (const { namespace } of site('east').pods) {
      await namespace.exec(['ip', 'link', 'set', 'eth0', state])
      if (state === 'up') await namespace.exec(['ip', 'route', 'replace', 'default', 'via', '10.2.0.1'])
    }
  }

  before(async () => {
    await unite(west(), site('east'))
    await works()
  })

  /** Nothing is left of a fault: the tunnel goes by UDP, and a pod of west reaches east. */
  async function works(): Promise<void> {
    await onPath('direct', west(), site('east'), 45_000).catch(async () => {
      // After several faults of UDP a tunnel over TCP tries UDP only every 5 min. A new start begins anew.
      for (const each of [west(), site('east')]) {
        await each.stop('SIGTERM')
        await each.start()
      }
      await onPath('direct', west(), site('east'))
    })
    await reaches(west(), site('east'), 120_000)
    await inStep(west())
  }

  const why = (name: string) => ['why', `${name}.shop.svc.cluster.east:80`]
  const rows: readonly Row[] = [
    {
      fault: 'a firewall on the way drops the UDP of the tunnel',
      ...between('udp dport 51820'),
      command: ['doctor'],
      code: 'PATH_TCP',
      says: /goes over TCP: .*UDP/,
      fix: /let UDP 51820 pass between this host and 203\.0\.113\.12 in both directions/
    },
    {
      fault: 'a firewall on the way drops the UDP of one direction',
      ...between('ip saddr 203.0.113.12 udp sport 51820'),
      command: ['doctor'],
      code: 'PATH_TCP',
      says: /goes over TCP: .*UDP/,
      fix: /let UDP 51820 pass between this host and 203\.0\.113\.12 in both directions/
    },
    {
      fault: 'a firewall on the way drops large UDP packets only',
      ...between('udp length gt 1000'),
      command: ['doctor'],
      code: 'PATH_MTU',
      says: /large packets are lost on the way to east-gw .* bulk transfers hang/,
      fix: /a firewall on the way drops large UDP packets: let UDP 51820 with up to 1500 bytes pass/
    },
    {
      fault: 'a firewall on the way drops the TCP of control connections',
      ...between('tcp dport 7946'),
      command: ['doctor'],
      code: 'CONTROL_LOST',
      says: /there is no control connection to any member/,
      fix: /control ports \(TCP 7946\)/
    },
    {
      fault: 'the uplink of this host is down',
      ...ip('link set wan0 down', 'link set wan0 up'),
      command: ['doctor'],
      code: 'NO_ADDRESS',
      says: /cluster east is down: .*its own uplink does not work/,
      fix: /bring the uplink of this host up: `ip -br link`/
    },
    {
      fault: 'another host has taken the address of the other gateway',
      ...ip(
        'neigh replace 203.0.113.12 lladdr 02:00:00:00:99:99 nud permanent dev wan0',
        'neigh del 203.0.113.12 dev wan0'
      ),
      command: ['doctor'],
      code: 'CLUSTER_DOWN',
      says: /203\.0\.113\.12 answers .*neither by UDP nor by TCP/,
      fix: /`ip neigh show 203\.0\.113\.12`|`ip route get 203\.0\.113\.12`/
    },
    {
      fault: 'a rule at the device of the uplink drops the UDP of the tunnel',
      ...rule('filter hook ingress device wan0 priority 0', 'udp dport 51820 drop', 'netdev'),
      command: ['doctor'],
      code: 'PORT_DROPPED',
      says: /drops new packets for UDP 51820, the port of meshd: rule \d+ \(drop\) in chain c of table netdev other/,
      fix: /accept udp dport 51820 in that chain before the drop, or delete its rule/
    },
    {
      fault: 'an IPsec policy of another VPN takes the pods of the other cluster',
      ...ip(
        `xfrm policy add src 0.0.0.0/0 dst ${podCidr('east')} dir out action block`,
        `xfrm policy delete src 0.0.0.0/0 dst ${podCidr('east')} dir out`
      ),
      command: ['doctor'],
      code: 'ROUTED_ELSEWHERE',
      says: /the IPsec policy "src 0\.0\.0\.0\/0 dst 10\.2\.0\.0\/16 dir out action block"/,
      fix: /exclude the prefixes of the mesh in that VPN/
    },
    {
      fault: 'a routing rule of another VPN takes the prefixes of the mesh',
      set: async () => {
        await exec('ip', 'route', 'add', 'default', 'dev', 'wan0', 'table', '777')
        await exec('ip', 'rule', 'add', 'pref', '100', 'to', '10.0.0.0/8', 'lookup', '777')
      },
      unset: async () => {
        await exec('ip', 'rule', 'del', 'pref', '100')
        await exec('ip', 'route', 'flush', 'table', '777')
      },
      command: ['doctor'],
      code: 'ROUTED_ELSEWHERE',
      says: /do not go into the tunnel: .* goes to wan0/,
      fix: /move that rule behind 5142/
    },
    {
      fault: 'a route of another program stands in the table of the agent',
      ...ip(
        'route add blackhole 10.2.0.0/24 table 5142 proto static',
        'route del blackhole 10.2.0.0/24 table 5142'
      ),
      command: ['doctor'],
      code: 'ROUTED_ELSEWHERE',
      says: /blackhole 10\.2\.0\.0\/24/,
      fix: /ip route delete blackhole 10\.2\.0\.0\/24 table 5142/
    },
    {
      fault: 'a bridge of containers has addresses of the other cluster',
      set: async () => {
        await exec('ip', 'link', 'add', 'docker9', 'type', 'bridge')
        await exec('ip', 'address', 'add', '10.2.9.1/24', 'dev', 'docker9')
        await exec('ip', 'link', 'set', 'docker9', 'up')
      },
      unset: () => exec('ip', 'link', 'del', 'docker9'),
      command: ['doctor'],
      code: 'PREFIX_OVERLAP',
      says: /overlaps .*10\.2\.9\.0\/24 on docker9/,
      fix: /renumber that network|remove that address/
    },
    {
      fault: 'this host has the address of a pod of the other cluster',
      ...ip('address add 10.2.0.11/32 dev lo', 'address del 10.2.0.11/32 dev lo'),
      command: ['doctor'],
      code: 'PREFIX_OVERLAP',
      says: /10\.2\.0\.11, an address of this host/,
      fix: /remove that address from the host that has it/
    },
    {
      fault: 'a rule keeps packets to services out of connection tracking',
      ...rule('filter hook output priority -300', 'ip daddr 10.102.0.0/16 notrack'),
      command: why('web'),
      code: 'SERVICES_DROPPED',
      says: /It ends at the stop host: .*out of connection tracking.*: rule \d+ \(untrack\) in chain c of table inet other/,
      fix: /fix: delete that rule, or except the service prefixes/
    },
    {
      fault: 'a rule drops packets to services before the load balancer',
      ...rule('filter hook output priority -400', 'ip daddr 10.102.0.0/16 drop'),
      command: why('web'),
      code: 'SERVICES_DROPPED',
      says: /It ends at the stop host: .*before the load balancer sees them: rule \d+ \(drop\) in chain c of table inet other/,
      fix: /fix: delete that rule .*or accept the service prefixes/
    },
    {
      fault: 'a policy drops forwarded packets',
      set: () => exec('iptables-nft', '-P', 'FORWARD', 'DROP'),
      unset: () => exec('iptables-nft', '-P', 'FORWARD', 'ACCEPT'),
      command: ['doctor'],
      code: 'FORWARD_DROPPED',
      says: /policy of chain FORWARD/,
      fix: /iptables -I FORWARD/
    },
    {
      fault: 'a masquerade of another program comes first',
      ...rule('nat hook postrouting priority 80', 'ip saddr 10.1.0.0/16 masquerade', 'ip'),
      command: ['doctor'],
      code: 'SOURCE_TRANSLATED',
      says: /translates the source of packets from pods into the tunnel, .*table ip other/,
      fix: /except packets out of rz\w+ from that rule/
    },
    {
      fault: 'a rule drops questions to the DNS responder',
      ...rule('filter hook output priority -400', 'udp dport 53 drop'),
      command: ['doctor'],
      says: /the responder does not answer over UDP/,
      fix: /drops or redirects UDP port 53/
    },
    {
      fault: 'a service has no ready endpoint',
      ...service('idle', '10.102.0.77'),
      command: why('idle'),
      says: /It ends at the stop endpoints/,
      fix: /fix: /
    },
    {
      fault: 'a service has a wrong targetPort',
      ...service('wrong', '10.102.0.78', 9999),
      command: why('wrong'),
      says: /It ends at the stop connection: .* was refused/,
      fix: /check targetPort of the Service, and that the program listens at the address of its pod/
    },
    {
      fault: 'the pods of a service are dead, and their cluster does not know it yet',
      set: () => links('down'),
      unset: () => links('up'),
      command: why('web'),
      says: /It ends at the stop connection: .* (not answered|EHOSTUNREACH)/,
      fix: /check that the pod of the endpoint runs/
    }
  ]

  it('are twenty', () => {
    assert.equal(rows.length, 20)
  })

  for (const { fault, set, unset, command, code, says, fix } of rows)
    it(`${fault}: ${command[0]} names it`, async () => {
      const [name = '', ...args] = command
      const said = async () => {
        const { stdout, stderr } = await west().ctl(name, ...args)
        return { stdout, all: `${stdout}${stderr}` }
      }
      await set()
      try {
        if (code !== undefined)
          await eventually(async () => (await standing(west(), code)) !== undefined, SET_MS)
        await eventually(async () => {
          const { stdout, all } = await said()
          // A finding is one line of `doctor`; `why` has its fix below its headline.
          const findings = name === 'doctor' ? stdout.split('\n') : [stdout]
          const named = findings.find((line) => says.test(line))
          assert.ok(named, all)
          assert.match(named, fix)
          return true
        }, SET_MS)
      } finally {
        await unset()
      }
      await works()
      if (code !== undefined)
        await eventually(async () => (await standing(west(), code)) === undefined, SET_MS)
      await eventually(async () => {
        const { stdout, all } = await said()
        assert.doesNotMatch(stdout, says, all)
        return true
      }, SET_MS)
    }).timeout(0)
})
