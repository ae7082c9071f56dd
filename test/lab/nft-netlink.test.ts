// What nothing changed costs nothing: how the nftables load balancer reads the kernel back, and changes one service.
import assert from 'node:assert/strict'
import type { VirtualServer } from '../../src/core/host/host-state.ts'
import { createNftLoadBalancer } from '../../src/io/host/load-balancer/nftables/nftables.ts'
import { openNftKernel } from '../../src/io/host/load-balancer/nftables/kernel.ts'
import type { LoadBalancer, Run } from '../../src/io/host/ports.ts'
import { createRun } from '../../src/io/host/tools/run.ts'
import { real, virtual } from '../contract/load-balancer.ts'
import { inNamespace } from './support/in-namespace.ts'
import { Lab, type Namespace } from './support/netns.ts'
import { requireLab } from './support/require.ts'

const TABLE = 'rhizome'
const DESIRED = [
  virtual('10.96.0.1', [real('10.1.0.11'), real('10.1.0.12', 3)]),
  virtual('10.96.0.2', [], { protocol: 'UDP', port: 53 }),
  virtual('10.96.0.3', [real('10.1.0.11')], { affinitySeconds: 60, scheduler: 'mh' }),
  virtual('fd96::1', [real('fd01::11'), real('fd01::12', 0)], { protocol: 'SCTP' })
] as const

describe('the nftables load balancer and the kernel', () => {
  const { signal } = new AbortController()
  let lab: Lab
  let host: Namespace
  let nft: Run
  let commands: string[] = []
  let balancer: LoadBalancer

  before(async function () {
    requireLab(this)
    lab = await Lab.create('nft-netlink.test')
    host = await lab.namespace('host')
    nft = createRun({ prefix: ['ip', 'netns', 'exec', host.name] })
    balancer = await create()
  })
  after(async () => {
    await balancer?.stop?.()
    await lab?.close()
  })
  beforeEach(async () => {
    await nft('nft', ['flush', 'ruleset'])
    await balancer.observe(signal)
    await set(...DESIRED)
    assert.deepEqual(await balancer.observe(signal), DESIRED)
    commands = []
  })

  async function create(): Promise<LoadBalancer> {
    const run: Run = (tool, args, options) => {
      commands.push([tool, ...args].join(' '))
      return nft(tool, args, options)
    }
    const openKernel = () => inNamespace(host, () => openNftKernel(TABLE))
    const made = createNftLoadBalancer({ run, names: { nftTable: TABLE }, openKernel })
    await made.start()
    return made
  }
  function set(...servers: readonly VirtualServer[]): Promise<void> {
    return balancer.apply(
      servers.map((want) => ({ want, have: undefined })),
      signal
    )
  }
  const foreign = (text: string) =>
    nft('nft', ['-f', '-'], { stdin: text, stdinAsFile: true, deadlineMs: 100_000 })

  it('runs no command to read back what nobody changed, also beside the changes of others', async () => {
    const first = await balancer.observe(signal)
    await foreign('table ip kube-proxy { chain services { ip daddr 10.96.0.1 drop; }; }\n')
    await foreign('table inet rhizome-like { set about { type mark; elements = { 7 }; }; }\n')
    await foreign(`table ip ${TABLE} { chain of-another-family { }; }\n`)
    await nft('nft', ['delete', 'table', 'ip', 'kube-proxy'])
    assert.equal(await balancer.observe(signal), first)
    assert.deepEqual(commands, [])
  })

  it('runs no command to change a service, and knows what it changed', async () => {
    const [first, udp, hashed, sctp] = DESIRED
    const fewer = { ...first, realServers: first.realServers.slice(1) }
    await balancer.apply([{ want: fewer, have: first }], signal)
    await balancer.apply(
      [
        { want: undefined, have: hashed },
        { want: { ...sctp, realServers: [real('fd01::11', 2)] }, have: sctp }
      ],
      signal
    )
    const expected = [fewer, udp, { ...sctp, realServers: [real('fd01::11', 2)] }]
    assert.deepEqual(await balancer.observe(signal), expected)
    assert.deepEqual(commands, [])
    const other = await create()
    assert.deepEqual(await other.observe(signal), expected, 'the kernel has something else')
    await other.stop?.()
  })

  const DRIFT: readonly (readonly [string, string])[] = [
    ['an element is deleted', `delete element inet ${TABLE} slots4 { 10.96.0.1 . 6 . 80 . 1 }`],
    ['a service is deleted', `delete element inet ${TABLE} services4 { 10.96.0.1 . 6 . 80 }`],
    ['a stray element is added', `add element inet ${TABLE} services4 { 10.96.0.9 . 6 . 80 : drop }`],
    ['a set is flushed', `flush map inet ${TABLE} slots6`],
    ['a rule is added', `insert rule inet ${TABLE} prerouting accept`],
    ['a chain is flushed', `flush chain inet ${TABLE} r2`],
    ['the table is made dormant', `table inet ${TABLE} { flags dormant; }`],
    ['the table is deleted', `delete table inet ${TABLE}`],
    ['all is flushed', 'flush ruleset']
  ]
  for (const [what, command] of DRIFT)
    it(`sees that ${what} by others, and repairs it`, async () => {
      await foreign(`${command}\n`)
      const have = await balancer.observe(signal)
      assert.notDeepEqual(have, DESIRED)
      const before = new Map(have.map((server) => [`${server.vip} ${server.port}`, server]))
      await balancer.apply(
        DESIRED.map((want) => ({ want, have: before.get(`${want.vip} ${want.port}`) })),
        signal
      )
      const strays = have.filter(({ vip, port }) => !DESIRED.some((w) => w.vip === vip && w.port === port))
      await balancer.apply(
        strays.map((server) => ({ want: undefined, have: server })),
        signal
      )
      assert.deepEqual(await balancer.observe(signal), DESIRED)
      const other = await create()
      assert.deepEqual(await other.observe(signal), DESIRED, 'the kernel has something else')
      await other.stop?.()
    })

  it('reads again when events were lost, and then no more', async () => {
    await foreign(bigSet())
    await nft('nft', ['delete', 'table', 'inet', 'big'])
    assert.deepEqual(await balancer.observe(signal), DESIRED)
    commands = []
    assert.deepEqual(await balancer.observe(signal), DESIRED)
    assert.deepEqual(commands, [])
  })

  it('counts a load by nft as its own, and reads again where another wrote meanwhile', async () => {
    const many = Array.from({ length: 3000 }, (_, index) =>
      virtual(`10.97.${index >> 8}.${index & 255}`, [real('10.1.0.11')])
    )
    await set(...many)
    assert.equal(commands.filter((command) => command.startsWith('nft -f')).length, 1)
    commands = []
    assert.equal((await balancer.observe(signal)).length, DESIRED.length + many.length)
    assert.deepEqual(commands, [])
    await Promise.all([
      set(...many.map((server) => ({ ...server, realServers: [real('10.1.0.12')] }))),
      foreign(`add table ip another\ndelete element inet ${TABLE} services4 { 10.96.0.1 . 6 . 80 }\n`)
    ])
    const seen = (await balancer.observe(signal)).find(({ vip }) => vip === DESIRED[0].vip)
    assert.notDeepEqual(seen, DESIRED[0], 'the deleted service was not seen')
  })

  it('changes one endpoint beside a foreign set of 200,000 elements without reading it', async function () {
    await foreign(bigSet('flags interval;'))
    await balancer.observe(signal) // events were lost
    commands = []
    const [first] = DESIRED
    const fewer = { ...first, realServers: first.realServers.slice(1) }
    const ours = await medianMs(5, async (turn) => {
      const [want, have] = turn % 2 === 0 ? [fewer, first] : [first, fewer]
      await balancer.apply([{ want, have }], signal)
      await balancer.observe(signal)
    })
    const own = 'table inet small { set s { type ipv4_addr; }; }'
    await foreign(`${own}\n`)
    const theirs = await medianMs(2, (turn) =>
      foreign(`${turn % 2 === 0 ? 'add' : 'delete'} element inet small s { 10.1.0.1 }\n`)
    )
    // nft reads the foreign elements: thousands of times as long, unless something of ours reads them, too.
    assert.ok(ours < theirs / 10, `${ours} ms, and ${theirs} ms for nft`)
    assert.deepEqual(
      commands.filter((command) => command.startsWith('nft')),
      []
    )
  })
})

function bigSet(flags = ''): string {
  const elements = Array.from(
    { length: 200_000 },
    (_, index) => `11.${index >> 16}.${(index >> 8) & 255}.${index & 255}`
  )
  return `table inet big { set s { type ipv4_addr; ${flags} elements = { ${elements.join(', ')} }; }; }\n`
}

async function medianMs(turns: number, work: (turn: number) => Promise<unknown>): Promise<number> {
  const times: number[] = []
  for (let turn = 0; turn < turns; turn++) {
    const started = performance.now()
    await work(turn)
    times.push(performance.now() - started)
  }
  return times.sort((a, b) => a - b)[Math.floor(turns / 2)] ?? 0
}
