// What every load balancer must do, whatever its kernel: one suite, run on nftables in a namespace and on IPVS in the
// guest (test/lab/support/guest.ts). The namespace `client` reaches the service addresses through `host`, which balances to servers in `pods`.
import assert from 'node:assert/strict'
import type { Cidr, Ip, Protocol } from '../../src/core/model/values.ts'
import type { RealServer, VirtualServer } from '../../src/core/host/host-state.ts'
import type { LoadBalancer, Run, VirtualServerChange } from '../../src/io/host/ports.ts'
import { isTranslated, slowness } from '../eventually.ts'

export interface Bench {
  /** A new instance, as after a restart, on the same kernel. */
  create(): LoadBalancer
  /** How many commands the instances have run that change something. */
  writes(): number
  /** Connects from the client `count` times, one after another; each answer is the server's "ip port" or an error code. */
  ask(question: Question): Promise<readonly string[]>
  /** Everything of the kernel's that is not ours, as text. */
  foreign(): Promise<string>
  /** A virtual server and a table of somebody else, to be left alone. */
  plantForeign(): Promise<void>
  /** Changes something of ours behind our back: the given server must not serve as desired any more. */
  tamper?(server: VirtualServer): Promise<void>
}

export interface Question {
  readonly protocol: 'TCP' | 'UDP'
  readonly ip: string
  readonly port: number
  readonly count: number
  /** Asks all of them from this port: one flow, for UDP. */
  readonly sourcePort?: number
  /** Asks from this address of the client. */
  readonly source?: string
}

/** Addresses of the pods, each with an echo server at 8080, TCP and UDP; service prefixes of the bench. */
export const PODS = ['10.1.0.11', '10.1.0.12', '10.1.0.13'] as const
export const PODS6 = ['fd01::11', 'fd01::12'] as const
export const CLIENTS = ['10.2.0.2', '10.2.0.3', '10.2.0.4', '10.2.0.5', '10.2.0.6', '10.2.0.7'] as const
export const VIP_PREFIXES = ['10.96.0.0/16', 'fd96::/112'] as readonly string[] as readonly Cidr[]
export const ECHO_PORT = 8080
/** Connects of one question to the client. */
const CHUNK = 50

export function real(ip: string, weight = 1, port = ECHO_PORT): RealServer {
  return { ip: ip as Ip, port, weight }
}

export function virtual(
  vip: string,
  realServers: readonly RealServer[],
  more: Partial<Omit<VirtualServer, 'vip' | 'realServers'>> = {}
): VirtualServer {
  return {
    vip: vip as Ip,
    protocol: 'TCP',
    port: 80,
    scheduler: 'rr',
    affinitySeconds: 0,
    realServers,
    ...more
  }
}

export function loadBalancerContract(make: () => Bench): void {
  describe('does what every load balancer does', () => contract(make))
}

function contract(make: () => Bench): void {
  const { signal } = new AbortController()
  let bench: Bench
  let balancer: LoadBalancer
  before(() => {
    bench = make()
  })
  beforeEach(async () => {
    balancer = bench.create()
    await balancer.start()
    await balancer.cleanup(signal)
  })
  after(async () => {
    await balancer?.cleanup(signal)
  })

  const set = (want: VirtualServer, have?: VirtualServer) => balancer.apply([{ want, have }], signal)
  const remove = (have: VirtualServer) => balancer.apply([{ want: undefined, have }], signal)
  const ask = (ip: string, count: number, more: Partial<Question> = {}) =>
    bench.ask({ protocol: 'TCP', ip, port: 80, count, ...more })
  const pods = PODS.map((ip) => `${ip} ${ECHO_PORT}`)

  it('observes an empty list where there is nothing', async () => {
    assert.deepEqual(await balancer.observe(signal), [])
  })

  it('observes what is desired, of every kind', async () => {
    const desired = [
      virtual('10.96.0.1', [real(PODS[0])], { port: 53, protocol: 'UDP' }),
      virtual('10.96.0.1', [real(PODS[0]), real(PODS[1])]),
      virtual('10.96.0.1', [real(PODS[0], 3), real(PODS[1], 0)], { port: 81, scheduler: 'wrr' }),
      virtual('10.96.0.1', [], { port: 82 }),
      virtual('10.96.0.1', [real(PODS[0], 0)], { port: 83, scheduler: 'lc' }),
      virtual('10.96.0.2', [real(PODS[0]), real(PODS[1])], { affinitySeconds: 10_800 }),
      virtual('10.96.0.2', [real(PODS[0]), real(PODS[1], 7)], { port: 90, scheduler: 'mh' }),
      virtual('10.96.0.3', [real(PODS[0])], { protocol: 'SCTP' }),
      virtual(
        'fd96::1',
        PODS6.map((ip) => real(ip))
      ),
      virtual('fd96::1', [real(PODS6[0], 2)], { port: 53, protocol: 'UDP', affinitySeconds: 60 })
    ]
    await balancer.apply(
      desired.toReversed().map((want) => ({ want, have: undefined })),
      signal
    )
    assert.deepEqual(await balancer.observe(signal), sorted(desired))
  })

  it('observes the same after a restart, and a second apply changes nothing', async () => {
    const desired = virtual('10.96.0.1', [real(PODS[0]), real(PODS[1], 0)], { affinitySeconds: 30 })
    await set(desired)
    const again = bench.create()
    await again.start()
    assert.deepEqual(await again.observe(signal), [desired])
    const before = bench.writes()
    await again.apply([{ want: desired, have: desired }], signal)
    await again.apply([], signal)
    assert.equal(bench.writes(), before)
    await again.apply([{ want: desired, have: undefined }], signal)
    assert.deepEqual(await again.observe(signal), [desired])
  })

  it('spreads connections over all backends', async () => {
    await set(
      virtual(
        '10.96.0.1',
        PODS.map((ip) => real(ip))
      )
    )
    const count = 60
    const answers = await ask('10.96.0.1', count)
    for (const pod of pods) {
      const share = answers.filter((answer) => answer === pod).length
      // 20 expected; for a fair draw, outside of 5 … 38 less often than once in 100,000 runs.
      assert.ok(share >= 5 && share <= 38, `${pod} got ${share} of ${count}: ${answers.join()}`)
    }
    assert.equal(answers.filter((answer) => pods.includes(answer)).length, count)
  })

  it('follows an added and a removed backend', async () => {
    const one = virtual('10.96.0.1', [real(PODS[0])])
    const two = virtual('10.96.0.1', [real(PODS[1]), real(PODS[2])])
    await set(one)
    assert.deepEqual(new Set(await ask('10.96.0.1', 4)), new Set([pods[0]]))
    await set(two, one)
    assert.deepEqual(await balancer.observe(signal), [two])
    assert.deepEqual(new Set(await ask('10.96.0.1', 24)), new Set([pods[1], pods[2]]))
  })

  it('answers every connect while its backends come and go', async () => {
    // On a translated processor each update and each connect takes ten times as long.
    const [updates, connects] = isTranslated ? [20, 200] : [200, 4000]
    const all = virtual(
      '10.96.0.1',
      PODS.map((ip) => real(ip))
    )
    // One backend drains, is removed, and comes back; then the next one does.
    const steps = PODS.flatMap((ip) => [
      { ...all, realServers: all.realServers.map((each) => (each.ip === ip ? real(ip, 0) : each)) },
      { ...all, realServers: all.realServers.filter((each) => each.ip !== ip) },
      all
    ])
    await set(all)
    const done = { updates: 0, connects: 0 }
    const isOver = (): boolean => done.updates >= updates && done.connects >= connects
    const failures: string[] = []
    const updating = async (): Promise<void> => {
      for (let have = all; !isOver(); done.updates++) {
        const want = steps[done.updates % steps.length] ?? all
        await set(want, have)
        have = want
      }
    }
    const connecting = async (): Promise<void> => {
      for (; !isOver(); done.connects += CHUNK)
        failures.push(...(await ask('10.96.0.1', CHUNK)).filter((answer) => !pods.includes(answer)))
    }
    await Promise.all([updating(), connecting()])
    assert.deepEqual(failures, [], `of ${done.connects} connects during ${done.updates} updates`)
  })

  it('sends no new flow to a backend of weight 0', async () => {
    const both = virtual('10.96.0.1', [real(PODS[0]), real(PODS[1])])
    await set(both)
    await set(virtual('10.96.0.1', [real(PODS[0], 0), real(PODS[1])]), both)
    assert.deepEqual(new Set(await ask('10.96.0.1', 12)), new Set([pods[1]]))
  })

  it('refuses at once where there is no backend', async () => {
    await set(virtual('10.96.0.1', []))
    await set(virtual('10.96.0.1', [real(PODS[0], 0)], { port: 81 }))
    await set(virtual('10.96.0.1', [], { protocol: 'UDP' }))
    const started = performance.now()
    assert.deepEqual(await ask('10.96.0.1', 1), ['ECONNREFUSED'])
    assert.deepEqual(await ask('10.96.0.1', 1, { port: 81 }), ['ECONNREFUSED'])
    assert.deepEqual(await ask('10.96.0.1', 1, { protocol: 'UDP' }), ['ECONNREFUSED'])
    assert.ok(performance.now() - started < 3000 * slowness(), 'refused, but slowly')
  })

  it('serves no more once removed', async () => {
    const server = virtual('10.96.0.1', [real(PODS[0])])
    await set(server)
    await remove(server)
    assert.deepEqual(await balancer.observe(signal), [])
    const [answer] = await ask('10.96.0.1', 1)
    assert.ok(answer !== pods[0], answer)
    await remove(server) // idempotent
  })

  it('keeps a client with its backend under ClientIP affinity', async () => {
    await set(
      virtual(
        '10.96.0.1',
        PODS.map((ip) => real(ip)),
        { affinitySeconds: 300 }
      )
    )
    for (const source of CLIENTS.slice(0, 3)) {
      assert.equal(new Set(await ask('10.96.0.1', 6, { source })).size, 1)
    }
  })

  it('moves affine clients away from a removed backend, and the others stay', async () => {
    const all = virtual(
      '10.96.0.1',
      PODS.map((ip) => real(ip)),
      { affinitySeconds: 300 }
    )
    await set(all)
    const before = new Map<string, string | undefined>()
    for (const source of CLIENTS) before.set(source, (await ask('10.96.0.1', 1, { source }))[0])
    await set({ ...all, realServers: all.realServers.slice(1) }, all)
    for (const source of CLIENTS) {
      const [answer] = await ask('10.96.0.1', 1, { source })
      if (before.get(source) === pods[0]) assert.notEqual(answer, pods[0])
      else assert.equal(answer, before.get(source))
    }
  })

  it('balances UDP, and a client that reuses its port leaves a removed backend', async () => {
    const udp = { protocol: 'UDP', port: 53 } as const
    const first = virtual('10.96.0.1', [real(PODS[0])], udp)
    const second = virtual('10.96.0.1', [real(PODS[1])], udp)
    await set(first)
    const flow = { ...udp, sourcePort: 40_053 }
    assert.deepEqual(await ask('10.96.0.1', 3, flow), [pods[0], pods[0], pods[0]])
    await set(second, first)
    const answers = await ask('10.96.0.1', 6, flow)
    // IPVS drops the packet that finds its backend gone, and balances the next one.
    assert.ok(!answers.includes(pods[0] ?? ''), answers.join())
    assert.deepEqual(answers.slice(-4), Array(4).fill(pods[1]))
  })

  it('balances IPv6', async () => {
    await set(
      virtual(
        'fd96::1',
        PODS6.map((ip) => real(ip))
      )
    )
    const answers = await ask('fd96::1', 24)
    assert.deepEqual(new Set(answers), new Set(PODS6.map((ip) => `${ip} ${ECHO_PORT}`)))
  })

  it('loads and changes 200 services', async () => {
    const desired = Array.from({ length: 200 }, (_, index) =>
      virtual(
        `10.96.1.${index}`,
        PODS.map((ip) => real(ip))
      )
    )
    await balancer.apply(
      desired.map((want) => ({ want, have: undefined })),
      signal
    )
    assert.deepEqual(await balancer.observe(signal), desired)
    const changes: VirtualServerChange[] = desired.map((have, index) => ({
      have,
      want: index % 2 === 0 ? undefined : { ...have, realServers: have.realServers.slice(index % 3) }
    }))
    await balancer.apply(changes, signal)
    assert.deepEqual(
      await balancer.observe(signal),
      changes.flatMap(({ want }) => (want ? [want] : []))
    )
    assert.equal((await ask('10.96.1.1', 1)).length, 1)
  })

  it('converges when the kernel is not what the caller believes', async () => {
    const first = virtual('10.96.0.1', [real(PODS[0])])
    const second = virtual('10.96.0.1', [real(PODS[1]), real(PODS[2], 2)], { affinitySeconds: 60 })
    await set(first)
    await bench.create().apply([{ want: second, have: undefined }], signal)
    assert.deepEqual(await balancer.observe(signal), [second])
    await set(first, virtual('10.96.0.1', [real(PODS[1])]))
    await pass([first])
    assert.deepEqual(await balancer.observe(signal), [first])
  })

  it('repairs what somebody changed behind its back in the next pass', async function () {
    const desired = [
      virtual(
        '10.96.0.1',
        PODS.map((ip) => real(ip))
      ),
      virtual('10.96.0.2', [real(PODS[0])])
    ]
    await pass(desired)
    await bench.tamper?.(desired[0] as VirtualServer)
    assert.notDeepEqual(await balancer.observe(signal), desired)
    await pass(desired)
    assert.deepEqual(await balancer.observe(signal), desired)
    const answers = new Set(await ask('10.96.0.1', 30))
    assert.deepEqual(answers, new Set(pods))
  })

  it('leaves the things of others byte-identical, also in cleanup', async () => {
    await bench.plantForeign()
    const before = await bench.foreign()
    assert.ok(before.length > 0)
    const server = virtual('10.96.0.1', [real(PODS[0])])
    await set(server)
    assert.equal(await bench.foreign(), before)
    assert.deepEqual(await balancer.observe(signal), [server])
    await balancer.cleanup(signal)
    assert.equal(await bench.foreign(), before)
    assert.deepEqual(await balancer.observe(signal), [])
  })

  it('cleans up without a start what another instance has left, and a second time', async () => {
    await set(virtual('10.96.0.1', [real(PODS[0])]))
    const unstarted = bench.create()
    await unstarted.cleanup(signal)
    assert.deepEqual(await balancer.observe(signal), [])
    assert.equal((await ask('10.96.0.1', 1)).includes(pods[0] ?? ''), false)
    await unstarted.cleanup(signal)
  })

  it('describes a change as commands', async () => {
    const server = virtual('10.96.0.1', [real(PODS[0])])
    const text = balancer.describe({ want: server, have: undefined }).join('\n')
    assert.match(text, /10\.96\.0\.1/)
    assert.match(text, /10\.1\.0\.11/)
    assert.deepEqual(balancer.describe({ want: server, have: server }), [])
  })

  /** What the reconciler does: observe, then change what differs. */
  async function pass(desired: readonly VirtualServer[]): Promise<void> {
    const key = (server: VirtualServer) => `${server.vip} ${server.protocol} ${server.port}`
    const have = new Map((await balancer.observe(signal)).map((server) => [key(server), server]))
    const want = new Map(desired.map((server) => [key(server), server]))
    const changes = [...new Set([...have.keys(), ...want.keys()])].map((name) => ({
      want: want.get(name),
      have: have.get(name)
    }))
    await balancer.apply(changes, signal)
  }
}

function sorted(servers: readonly VirtualServer[]): readonly VirtualServer[] {
  const rank = (server: VirtualServer): readonly (string | number)[] => [
    server.vip.includes(':') ? 1 : 0,
    server.vip,
    server.protocol satisfies Protocol,
    server.port
  ]
  return servers.toSorted((left, right) => {
    const [a, b] = [rank(left), rank(right)]
    const at = a.findIndex((value, index) => value !== b[index])
    return at < 0 ? 0 : (a[at] ?? 0) < (b[at] ?? 0) ? -1 : 1
  })
}

/** A Run that counts what changes something, for Bench.writes. */
export function counting(run: Run): { readonly run: Run; writes(): number } {
  let writes = 0
  return {
    run: (tool, args, options) => {
      const reads =
        args.includes('list') || args.includes('-L') || args.includes('--version') || args.includes('-S')
      if (!reads && tool !== 'cat') writes++
      return run(tool, args, options)
    },
    writes: () => writes
  }
}
