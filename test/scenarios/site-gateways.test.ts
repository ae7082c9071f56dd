// A site without Kubernetes with two gateways on one network of pods: real kernels and tunnels. One token makes the second
// gateway; the first loses power, and the second carries the site and speaks for it; the first comes back, and leaves.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { PeersAnswer, StatusAnswer } from '../../src/api/answers.ts'
import type { Site } from '../demo/site.ts'
import { podCidr } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { announce, done, look, raise, reaches, refused, status, unite } from './harness.ts'

// As for the gateways of a Kubernetes cluster (test/lab/kube-gateways-traffic.test.ts): a silent tunnel is given up after
// seconds, and the machine may be busy.
const FAILOVER_MS = 60_000

// The host `east` is the second gateway of the site edge.
describe('two gateways of a site without Kubernetes', function () {
  const { site, world } = raise('sites', ['west', 'edge', 'east'], { start: false })
  const west = (): Site => site('west')
  const routers = { edge: '10.3.0.1', east: '10.3.0.2' } as const
  type Gateway = keyof typeof routers
  const keys = new Map<Gateway, string>()
  let token = ''

  before(async () => {
    await world().lab.attach(site('edge').gateway, 'pods0', 'second', {
      namespace: site('east').gateway,
      device: 'lan0',
      cidr: `${routers.east}/24`
    })
    // The switch of the site is in the namespace of its first gateway. No switch filters what it carries.
    const bridged = 'net.bridge.bridge-nf-call-iptables=0'
    await site('edge').gateway.exec(['sysctl', '-q', '-w', bridged], { check: false })
    await Promise.all([west().start(), site('edge').start(), site('east').start(...asSecond())])
    await unite(west(), site('edge'))
    await reaches(west(), site('edge'))
  })

  it('one token makes one more gateway, without an administrator, and a second host gets nothing with it', async () => {
    token = (await done(site('edge').ctl('invite', '--gateway'))).stdout.trim()
    const file = join(world().folder, 'gateway.token')
    writeFileSync(file, token, { mode: 0o600 })
    const { stdout } = await done(site('east').ctl('join', '--token-file', file))
    assert.match(stdout, /^This host is one more gateway of cluster edge\.$/m)
    await eventually(async () => {
      const { peers } = await look<PeersAnswer>(west(), 'peers')
      const rows = peers.filter(({ cluster }) => cluster === 'edge')
      return rows.length === 2 && rows.every(({ state }) => state === 'up')
    }, FAILOVER_MS)
    const list = (await done(site('edge').ctl('invite', 'list'))).stdout
    const { peerId = 'none' } = await status(site('east'))
    assert.match(list, new RegExp(`^edge +gateway +used .*${peerId}$`, 'm'))
    assert.match(await refused(west().ctl('join', '--token-file', file)), /one more gateway of cluster edge/)
  })

  it('the one that carries the site loses power: the other carries it, until it is back', async () => {
    const [first, second] = await inOrder()
    await route(first)
    await reaches(west(), site('edge'))
    const sinceMs = performance.now()
    await site(first).powerOff()
    // The network of the site does this, for example by VRRP.
    await route(second)
    await reaches(west(), site('edge'), FAILOVER_MS)
    console.log(`      reached by the other one after ${((performance.now() - sinceMs) / 1000).toFixed(1)} s`)
    // It comes back, and carries the site again.
    await site(first).gateway.exec(['ip', 'link', 'set', 'wan0', 'up'])
    await site(first).start(...(first === 'east' ? asSecond() : []))
    await eventually(async () => (await carrier()) === first, FAILOVER_MS)
    await route(first)
    await reaches(west(), site('edge'), FAILOVER_MS)
  })

  it('the one that speaks loses power: the other speaks after the time of a Lease, and goes on when it is back', async () => {
    await site('edge').powerOff()
    await route('east')
    const sinceMs = performance.now()
    await announce(site('edge'), 'later').seen(west(), 2 * FAILOVER_MS)
    console.log(`      a new service was seen after ${((performance.now() - sinceMs) / 1000).toFixed(1)} s`)
    await reaches(west(), site('edge'), FAILOVER_MS)
    await site('edge').powerOn()
    await announce(site('edge'), 'again').seen(west(), FAILOVER_MS)
    await route((await inOrder())[0])
    await reaches(west(), site('edge'), FAILOVER_MS)
  })

  it('one leaves: its cluster stays a member, and is reached by the other', async () => {
    const [first, second] = await inOrder()
    await done(site(first).ctl('leave', '--yes'))
    await route(second)
    await eventually(async () => {
      const { peers } = await look<PeersAnswer>(west(), 'peers')
      assert.deepEqual(
        peers.filter(({ cluster }) => cluster === 'edge').map(({ peerId }) => peerId),
        [(await look<StatusAnswer>(site(second), 'status')).peerId]
      )
      return true
    }, FAILOVER_MS)
    await reaches(west(), site('edge'), FAILOVER_MS)
  })

  // ------------------------------------------------------------------ words of these checks

  /** The flags of the second gateway: the manifests of its site. */
  function asSecond(): string[] {
    return ['--manifests', site('edge').manifests, '--node-name', 'edge-2']
  }

  /** All pods of the site answer by this gateway. */
  async function route(by: Gateway): Promise<void> {
    for (const { namespace } of site('edge').pods)
      await namespace.exec(['ip', 'route', 'replace', 'default', 'via', routers[by]])
  }

  /** The gateway to which west routes the pods of the site. */
  async function carrier(): Promise<Gateway | undefined> {
    const { stdout } = await west().gateway.exec(['wg', 'show', west().device, 'allowed-ips'])
    const line = stdout.split('\n').find((row) => row.includes(podCidr('edge'))) ?? ''
    for (const gateway of ['edge', 'east'] as const)
      if (line.startsWith((await keyOf(gateway)) ?? '-')) return gateway
    return undefined
  }

  async function inOrder(): Promise<readonly [Gateway, Gateway]> {
    for (const gateway of ['edge', 'east'] as const) await keyOf(gateway)
    const first = await carrier()
    assert.ok(first !== undefined)
    return [first, first === 'edge' ? 'east' : 'edge']
  }

  /** Remembered, since the agent may be gone when it is asked for again. */
  async function keyOf(gateway: Gateway): Promise<string | undefined> {
    const key =
      keys.get(gateway) ?? (await look<StatusAnswer>(site(gateway), 'status')).wireguardKey ?? undefined
    if (key !== undefined) keys.set(gateway, key)
    return key
  }
})
