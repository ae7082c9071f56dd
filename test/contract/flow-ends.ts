// Where flows end, for every load balancer: on real kernels with real conntrack, in the namespaces of createLabBench.
import assert from 'node:assert/strict'
import { createInterface } from 'node:readline'
import type { VirtualServer } from '../../src/core/host/host-state.ts'
import { HostError } from '../../src/io/host/errors.ts'
import { withFlowEnds } from '../../src/io/host/load-balancer/flow-ends.ts'
import type { LoadBalancer, Run } from '../../src/io/host/ports.ts'
import { eventually } from '../eventually.ts'
import { createLabBench, type LabBench } from '../lab/support/lb-bench.ts'
import { Lab, type Namespace } from '../lab/support/netns.ts'
import { requireLab } from '../lab/support/require.ts'
import { PODS, real, VIP_PREFIXES, virtual } from './load-balancer.ts'

const { signal } = new AbortController()
const UDP = { protocol: 'UDP', port: 53 } as const
const LONG_PORT = 9000

export interface FlowEndsOptions {
  readonly title: string
  create(run: Run): LoadBalancer
  /** As another program would: everything that balances goes. */
  loseRules(run: Run): Promise<void>
  prepare?(run: Run): Promise<void>
}

export function flowEndsSuite(options: FlowEndsOptions): void {
  describe(options.title, () => suite(options))
}

function suite(options: FlowEndsOptions): void {
  let lab: Lab
  let bench: LabBench
  let pods: Namespace
  let client: Namespace
  let balancer: LoadBalancer
  /** How many calls of conntrack fail from now on. */
  let failures = 0
  let sourcePort = 41_000

  before(async function () {
    requireLab(this)
    lab = await Lab.create('flow-ends')
    bench = await createLabBench({
      lab,
      create: (run) => options.create(run),
      foreign: async () => '',
      plantForeign: async () => undefined,
      tamper: async () => undefined
    })
    pods = await lab.namespace('pods')
    client = await lab.namespace('client')
    await options.prepare?.(bench.run)
    const server = `
      const net = require('node:net')
      let open = ${PODS.length}
      for (const ip of ${JSON.stringify(PODS)})
        net.createServer((s) => s.on('error', () => 0).on('data', () => s.write(ip + '\\n')))
          .listen(${LONG_PORT}, ip, () => --open || console.log('ready'))`
    await said(pods.spawn([process.execPath, '-e', server]), 'ready')
  })
  beforeEach(async () => {
    failures = 0
    sourcePort++ // a flow of its own for each test
    await restart()
    await balancer.cleanup(signal)
    await balancer.observe(signal)
  })
  after(async () => {
    await balancer?.stop?.()
    await lab?.close()
  })

  /** A new agent on the same kernel. */
  async function restart(): Promise<void> {
    await balancer?.stop?.()
    const run: Run = (tool, args, runOptions) => {
      if (tool !== 'conntrack' || failures === 0) return bench.run(tool, args, runOptions)
      failures--
      return Promise.reject(new HostError({ code: 'TOOL_FAILED', message: 'conntrack failed' }))
    }
    balancer = withFlowEnds(options.create(run), { run })
    await balancer.start()
  }
  const set = (want: VirtualServer, have?: VirtualServer) => balancer.apply([{ want, have }], signal)
  const ask = (count = 1) => bench.ask({ ...UDP, ip: '10.96.0.1', count, sourcePort })
  const answer = (index: number) => `${PODS[index]} 8080`
  const udp = (index: number) => virtual('10.96.0.1', [real(PODS[index] ?? '')], UDP)
  /** IPVS drops the packet that finds its backend gone, and balances the next one. */
  async function answersSoon(index: number): Promise<void> {
    await eventually(async () => (await ask())[0] === answer(index))
    assert.deepEqual(await ask(3), Array(3).fill(answer(index)))
  }

  it('a UDP flow leaves a removed backend although conntrack fails once', async () => {
    await set(udp(0))
    assert.deepEqual(await ask(2), [answer(0), answer(0)])
    failures = 1
    await set(udp(1), udp(0))
    assert.equal(failures, 0)
    await balancer.observe(signal)
    await answersSoon(1)
  })

  it('a UDP flow leaves a backend that was replaced while the rules were lost', async () => {
    await set(udp(0))
    await answersSoon(0)
    await options.loseRules(bench.run)
    assert.deepEqual(await balancer.observe(signal), [])
    await set(udp(1))
    await balancer.observe(signal)
    await answersSoon(1)
  })

  it('a UDP flow that began before its route, behind a fixed source address, is balanced', async () => {
    const route = ['ip', 'route', 'replace', VIP_PREFIXES[0] ?? '']
    await bench.host.exec(['ip', 'route', 'del', 'local', VIP_PREFIXES[0] ?? ''])
    await bench.host.exec([...route, 'via', PODS[2]])
    const table =
      'table ip uplink { chain post { type nat hook postrouting priority 100; oifname "pods" snat to 10.1.0.1; }; }'
    await bench.run('nft', ['-f', '-'], { stdin: `${table}\n`, stdinAsFile: true })
    await ask()
    await set(udp(0))
    await bench.host.exec(['ip', 'route', 'del', VIP_PREFIXES[0] ?? ''])
    await bench.host.exec([
      'ip',
      'route',
      'add',
      'local',
      VIP_PREFIXES[0] ?? '',
      'dev',
      'lo',
      'src',
      '10.2.0.1'
    ])
    await balancer.observe(signal)
    await answersSoon(0)
    await bench.run('nft', ['delete', 'table', 'ip', 'uplink'])
  })

  const both = virtual('10.96.0.1', [real(PODS[0], 1, LONG_PORT), real(PODS[1], 1, LONG_PORT)])
  const draining = virtual('10.96.0.1', [real(PODS[0], 0, LONG_PORT), real(PODS[1], 1, LONG_PORT)])
  const one = virtual('10.96.0.1', [real(PODS[1], 1, LONG_PORT)])

  it('a TCP flow lives while its backend drains, and is cut when it goes; the others live on', async () => {
    await set(both)
    const flows = await openFlows(client)
    await set(draining, both)
    await balancer.observe(signal)
    assert.deepEqual(await flows.alive(), { [PODS[0]]: true, [PODS[1]]: true })
    await set(one, draining)
    await eventually(async () => (await flows.alive())[PODS[0]] === false)
    assert.deepEqual(await flows.alive(), { [PODS[0]]: false, [PODS[1]]: true })
    flows.close()
  })

  it('a TCP flow is cut after a restart, too, where conntrack failed before it', async () => {
    await set(both)
    const flows = await openFlows(client)
    await set(draining, both)
    failures = 100
    await set(one, draining)
    await restart()
    failures = 0
    assert.deepEqual(await balancer.observe(signal), [one])
    await eventually(async () => (await flows.alive())[PODS[0]] === false)
    assert.deepEqual(await flows.alive(), { [PODS[0]]: false, [PODS[1]]: true })
    flows.close()
  })

  it('a TCP flow to a removed service is cut, and the flows of another live on', async () => {
    const other = virtual('10.96.0.2', both.realServers)
    await set(both)
    await set(other)
    const [flows, others] = [await openFlows(client), await openFlows(client, '10.96.0.2')]
    await balancer.apply([{ want: undefined, have: both }], signal)
    await eventually(async () => !Object.values(await flows.alive()).includes(true))
    assert.deepEqual(await others.alive(), { [PODS[0]]: true, [PODS[1]]: true })
    flows.close()
    others.close()
  })
}

interface Flows {
  /** By backend, whether a request on the open connection is answered within a second. */
  alive(): Promise<Readonly<Record<string, boolean>>>
  close(): void
}

/** One long connection to each of the first two pods. */
async function openFlows(client: Namespace, vip = '10.96.0.1'): Promise<Flows> {
  const program = `
    const net = require('node:net')
    const flows = new Map()
    const ask = (s) => new Promise((done) => {
      const end = (value) => { clearTimeout(timer); s.off('data', said).off('close', gone); done(value) }
      const said = (text) => end(String(text).trim())
      const gone = () => end(undefined)
      const timer = setTimeout(gone, 1500)
      if (s.destroyed) return gone()
      s.on('data', said).on('close', gone).write('?')
    })
    const open = async () => {
      const s = net.connect(80, '${vip}').on('error', () => 0)
      const ip = await ask(s)
      if (ip === undefined || flows.has(ip)) s.destroy()
      else flows.set(ip, s)
    }
    ;(async () => {
      while (flows.size < 2) await open()
      console.log('ready')
      for await (const _ of require('node:readline').createInterface({ input: process.stdin })) {
        const alive = {}
        for (const [ip, s] of [...flows].sort()) alive[ip] = (await ask(s)) === ip
        console.log(JSON.stringify(alive))
      }
    })()`
  const child = client.spawn([process.execPath, '-e', program], { stdio: ['pipe', 'pipe', 'inherit'] })
  const next = await said(child, 'ready')
  return {
    async alive() {
      child.stdin?.write('\n')
      return JSON.parse(await next()) as Record<string, boolean>
    },
    close: () => void child.kill()
  }
}

/** Waits for the line; the result gives the next ones. */
async function said(child: ReturnType<Namespace['spawn']>, line: string): Promise<() => Promise<string>> {
  assert.ok(child.stdout)
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const next = async () => String((await lines.next()).value)
  assert.equal(await next(), line)
  return next
}
