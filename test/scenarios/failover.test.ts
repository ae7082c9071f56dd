// A gateway of two ends, in each way in which one can end, under connections that stay open and connections that are
// new: planned (restart, upgrade in place, downgrade), by kill -9 and by a stop of its process, by a cut link and by a loss of power.
import assert from 'node:assert/strict'
import { setTimeout as pause } from 'node:timers/promises'
import type { PeersAnswer } from '../../src/api/answers.ts'
import { GATEWAYS, NodeCluster, WEB_OF_NODE, type Gateway } from '../demo/node-cluster.ts'
import { otherBuild } from '../demo/other-build.ts'
import type { Pod, Site } from '../demo/site.ts'
import { eventually, slowness } from '../eventually.ts'
import { holdConnections, type Held } from '../lab/support/held-connections.ts'
import { shortConnections, type Short } from '../lab/support/short-connections.ts'
import { done, inStep, look, raise, refused } from './harness.ts'

const DEADLINE_MS = 60_000
/** FAILOVER_CONNECTIONS=10000 holds as many as a gateway of a middle-sized site has. */
const CONNECTIONS = Number(process.env['FAILOVER_CONNECTIONS'] ?? 1000)
const NAMES = ['web.shop.svc.cluster.west', 'on-node.shop.svc.cluster.edge']
/** As where systemd restarts the unit: the gateways hand nothing over. */
const OUTLIVE = ['--dns-outlive-seconds', '60', '--hand-over-on-stop', 'never']
/** As where nothing says that the agent starts again. */
const LASTING = ['--dns-outlive-seconds', '60', '--hand-over-on-stop', 'auto']
/** Connections of the planned stop, of which CONNECTIONS stay open and the others are short. */
const PLANNED_CONNECTIONS = Number(process.env['PLANNED_CONNECTIONS'] ?? 10_000)
const LANES = 16
const PLANNED_MS = 300_000

describe('a gateway that ends', function () {
  const { site, world } = raise('failover', ['west', 'edge', 'east'], { start: false })
  const west = (): Site => site('west')
  let cluster: NodeCluster

  before(async () => {
    cluster = await NodeCluster.unite(world(), OUTLIVE)
    await eventually(async () => {
      assert.equal((await west().pod(0).tcp(WEB_OF_NODE, 80, { timeoutMs: 500 })).error, undefined)
      const { addresses } = await west()
        .pod(0)
        .resolve(NAMES[1] ?? '')
      assert.equal(addresses.length, 1)
      return true
    }, DEADLINE_MS)
    await settled()
  })
  after(() => cluster?.node.stop('SIGTERM'))

  it('restart, upgrade in place and downgrade of every agent, one after the other: nothing breaks', async () => {
    const newer = otherBuild(world().folder)
    const before = await cluster.carrier()
    const { held, failed, asked } = await during(async () => {
      for (const wrapper of [newer, []])
        for (const name of ['west', ...GATEWAYS] as const) {
          await site(name).stop('SIGTERM')
          await start(name, wrapper)
          await inStep(site(name))
          await settled() // as an operator who rolls an upgrade out waits for each host
        }
      await cluster.node.stop('SIGTERM')
      await cluster.node.start(...OUTLIVE)
    })
    console.log(`      ${asked} new connections and names, ${held.opened} held`)
    unfailing(failed, asked)
    assert.equal(held.broken, 0, JSON.stringify(held))
    // The kernels carried the traffic, so no prefix had to move.
    assert.equal(await cluster.carrier(), before)
  })

  it('drain, undrain, a planned stop and the start of the carrying gateway: no connection breaks', async () => {
    const carrier = await settled()
    const other = GATEWAYS.find((each) => each !== carrier) ?? assert.fail()
    const ctl = (...args: readonly string[]) => site(carrier).ctl(...args)
    const { held, short, failed, asked } = await during(
      async () => {
        await done(ctl('drain'))
        assert.equal(await cluster.carrier(), other)
        assert.match((await done(ctl('status'))).stdout, /GATEWAY_DRAINED|this gateway is drained/)
        assert.equal((await rowOf(carrier)).handOver, 'drained')
        assert.equal((await rowOf(carrier)).state, 'up')
        await site(carrier).stop('SIGTERM')
        await start(carrier, [], LASTING)
        assert.equal(await cluster.carrier(), other, 'a drain lasts through a restart')
        await done(ctl('undrain'))
        await carriedBy(carrier)
        await settled()
        await site(carrier).stop('SIGTERM')
        assert.equal(await cluster.carrier(), other, 'the stop has handed over')
        assert.match(site(carrier).tail(60), /handed the traffic over before the stop/)
        await site(carrier).gateway.exec(['ip', 'link', 'set', 'wan0', 'down']) // what a shutdown does next
        await pause(1000)
        await cluster.reconnect(carrier)
        await start(carrier, [], LASTING)
        await carriedBy(carrier)
        await settled()
      },
      { short: PLANNED_CONNECTIONS - CONNECTIONS }
    )
    const total = held.opened + (short?.opened ?? 0)
    console.log(
      `      ${total} connections, ${held.opened} of them held; longest silence ${held.silentMs} ms (held), ${short?.silentMs} ms (new)`
    )
    assert.ok(total >= PLANNED_CONNECTIONS, `${total} connections`)
    assert.equal(held.broken, 0, JSON.stringify(held))
    assert.equal(short?.failed, 0, `${JSON.stringify(short)}\n${logs()}`)
    unfailing(failed, asked)
    // The other gateway is drained, too: the first one is as good as before, and a second drain is refused.
    await done(site(other).ctl('drain'))
    assert.match(await refused(ctl('drain')), /ONLY_GATEWAY|only gateway of cluster edge/)
    await done(site(other).ctl('undrain'))
  })

  for (const [signal, back] of [
    ['SIGKILL', start],
    ['SIGSTOP', resume]
  ] as const)
    it(`the agent of the carrying gateway gets ${signal}: its kernel carries on, and nothing moves`, async () => {
      const carrier = await settled()
      const { held, failed, asked } = await during(async () => {
        if (signal === 'SIGKILL') await site(carrier).stop('SIGKILL')
        else process.kill(site(carrier).pid ?? 0, signal)
        try {
          await eventually(async () => {
            const { reason } = await rowOf(carrier)
            return /answers, but its agent does not/.test(reason ?? '')
          }, DEADLINE_MS)
          const { error } = await west().pod(1).tcp(WEB_OF_NODE, 80, { count: 20 })
          assert.equal(error, undefined)
          unmoved(await cluster.carrier(), carrier)
        } finally {
          await back(carrier)
        }
      })
      unfailing(failed, asked)
      assert.equal(held.broken, 0, JSON.stringify(held))
    })

  for (const [what, cut, back] of [
    ['its link is cut', (gone: Gateway) => cutLink(gone), (gone: Gateway) => cluster.reconnect(gone)],
    [
      'it loses power',
      (gone: Gateway) => site(gone).powerOff(),
      (gone: Gateway) => cluster.powerOn(gone, OUTLIVE)
    ]
  ] as const)
    it(`${what}: the other gateway carries the connections that are open, until it is back`, async () => {
      const gone = await settled()
      let movedMs = 0
      const { held } = await during(async () => {
        const sinceMs = performance.now()
        await cut(gone)
        await eventually(async () => {
          const { error } = await west().pod(1).udp(NODE_POD, 9125, { timeoutMs: 100 })
          return error === undefined
        }, DEADLINE_MS)
        movedMs = performance.now() - sinceMs
        await eventually(async () => (await cluster.carrier()) !== gone, DEADLINE_MS)
        await back(gone)
        await eventually(async () => (await cluster.carrier()) === gone, DEADLINE_MS)
      })
      console.log(
        `      answered again after ${(movedMs / 1000).toFixed(1)} s; of ${held.opened} connections ${held.broken} broke`
      )
      assert.equal(held.broken, 0, JSON.stringify(held))
    })

  // ------------------------------------------------------------------ words of these checks

  async function start(
    name: 'west' | Gateway,
    wrapper: readonly string[] = [],
    flags: readonly string[] = OUTLIVE
  ): Promise<void> {
    if (name === 'west') await west().startUnder(wrapper, flags)
    else await cluster.startGateway(name, flags, wrapper)
  }

  async function carriedBy(gateway: Gateway): Promise<void> {
    await eventually(async () => (await cluster.carrier()) === gateway, DEADLINE_MS)
  }

  /** On a busy machine, probes come late: the prefixes may then move, as for a loss of power. */
  function unmoved(carrier: string | undefined, before: string): void {
    if (slowness() === 1) assert.equal(carrier, before)
    else if (carrier !== before) console.log(`      on a busy machine, the prefixes moved to ${carrier}`)
  }

  async function resume(name: Gateway): Promise<void> {
    process.kill(site(name).pid ?? 0, 'SIGCONT')
  }

  async function cutLink(gateway: Gateway): Promise<void> {
    await site(gateway).gateway.exec(['ip', 'link', 'set', 'wan0', 'down'])
  }

  /** Both gateways answer west and the node, and the first in their order carries the node. */
  async function settled(): Promise<Gateway> {
    let carrier: Gateway | undefined
    await eventually(async () => {
      for (const from of [west(), cluster.node]) {
        const { peers } = await look<PeersAnswer>(from, 'peers')
        const rows = peers.filter((row) => row.cluster === 'edge' && GATEWAY_NODES.has(row.node))
        assert.equal(rows.length, 2)
        // On a busy machine the reason counts changes of the last 10 min, which do not matter here.
        for (const { state, reason, rttMs } of rows)
          assert.ok(state === 'up' && rttMs !== undefined, `${state} ${reason}`)
      }
      carrier = await cluster.carrier()
      return carrier !== undefined
    }, DEADLINE_MS)
    return carrier ?? assert.fail()
  }

  async function rowOf(gateway: Gateway): Promise<PeersAnswer['peers'][number]> {
    const { peers } = await look<PeersAnswer>(west(), 'peers')
    const name = gateway === 'edge' ? 'edge-1' : 'edge-2'
    return peers.find((row) => row.cluster === 'edge' && row.node === name) ?? assert.fail(name)
  }

  /**
   * Does this while connections are held in both directions, and new ones and names are asked for without a pause. `short`: at
   * least so many further connections are opened, used and closed meanwhile.
   */
  async function during(
    act: () => Promise<void>,
    { short: least }: { readonly short?: number } = {}
  ): Promise<{
    readonly held: Held
    readonly short: Short | undefined
    readonly failed: Readonly<Record<string, string>>
    readonly asked: number
  }> {
    const pod = west().pod(2)
    const inward = await holdConnections(pod.namespace, onNode(), {
      address: WEB_OF_NODE,
      port: 81,
      count: CONNECTIONS
    })
    const many =
      least === undefined
        ? undefined
        : await shortConnections(pod.namespace, { address: WEB_OF_NODE, port: 81, lanes: LANES })
    const ended = new AbortController()
    const failed: Record<string, string> = {}
    let asked = 0
    const ask = async (what: string, request: () => Promise<string | undefined>): Promise<void> => {
      while (!ended.signal.aborted) {
        const error = await request()
        asked++
        if (error !== undefined) count(failed, `${what}: ${error}`)
        await pause(PAUSE_MS)
      }
    }
    const resolves = async (from: Pod, name: string): Promise<string | undefined> => {
      const { addresses, error } = await from.resolve(name)
      return addresses.length > 0 ? undefined : error
    }
    const loops = Promise.all([
      ask('west → node', async () => (await west().pod(0).tcp(WEB_OF_NODE, 80)).error),
      ask('node → west', async () => (await cluster.node.pod.tcp(NAMES[0] ?? '', 80)).error),
      ...NAMES.map((name) => ask(name, () => resolves(west().pod(0), name)))
    ])
    let held: Held | undefined
    let short: Short | undefined
    try {
      await act()
      if (many !== undefined) await eventually(() => many.count() >= (least ?? 0), PLANNED_MS)
    } finally {
      ended.abort()
      await loops
      short = await many?.end()
      held = await inward.end() // also after a failure: the next test needs the port
    }
    return { held, short, failed, asked }
  }

  /**
   * None of the new connections and names failed. Where the processors are taken for seconds, agents take each other for silent,
   * and then the failures are only printed.
   */
  function unfailing(failed: Readonly<Record<string, string>>, asked: number): void {
    const said = `of ${asked}: ${JSON.stringify(failed)}`
    if (slowness() > 2) console.log(`      on a busy machine, failed ${said}`)
    else assert.deepEqual(failed, {}, `${said}\n${logs()}`)
  }

  /** For a failure: what the agents did of late. */
  function logs(): string {
    const of = [west(), ...GATEWAYS.map((gateway) => site(gateway)), cluster.node]
    return of.map((each) => each.tail(25)).join('\n')
  }

  function onNode() {
    return { namespace: cluster.node.pod.namespace, address: NODE_POD }
  }
})

/** Between two requests of one kind: without it they take the processors from the agents. */
const PAUSE_MS = 20
/** Counts an error, with the time of the first one. */
function count(failed: Record<string, string>, error: string): void {
  const [number = '0', first = new Date().toISOString()] = (failed[error] ?? '')
    .split(' since ')
    .filter(Boolean)
  failed[error] = `${Number(number) + 1} since ${first}`
}

const NODE_POD = '10.3.1.11'
const GATEWAY_NODES: ReadonlySet<string> = new Set(['edge-1', 'edge-2'])
