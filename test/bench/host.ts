// The host's part: what the load balancer costs beside the usual shape, one chain per service and one per endpoint (kube-proxy).
import { plan } from '../../src/core/host/plan.ts'
import { EMPTY_HOST } from '../../src/core/host/normalize.ts'
import type { VirtualServer } from '../../src/core/host/host-state.ts'
import type { Ip } from '../../src/core/model/values.ts'
import { createNftLoadBalancer } from '../../src/io/host/load-balancer/nftables/nftables.ts'
import { openNftKernel } from '../../src/io/host/load-balancer/nftables/kernel.ts'
import { createRun } from '../../src/io/host/tools/run.ts'
import { inNamespace } from '../lab/support/in-namespace.ts'
import { Lab } from '../lab/support/netns.ts'
import { medianMs, row, type Row } from './row.ts'

// The baseline takes 143 s for 10,000 services; its growth is worse than linear, so a third flatters it.
const SERVICES = 3000
const BACKENDS = 10
const TABLE = 'rhizome'

export async function rows(): Promise<Row[]> {
  const reason = Lab.requirements()
  if (reason !== undefined) {
    process.stderr.write(`host: left out: ${reason}\n`)
    return []
  }
  const lab = await Lab.create('bench')
  try {
    const ours = await lab.namespace('ours')
    const theirs = await lab.namespace('theirs')
    const signal = AbortSignal.timeout(300_000)
    const balancer = createNftLoadBalancer({
      run: createRun({ prefix: ['ip', 'netns', 'exec', ours.name] }),
      names: { nftTable: TABLE }
    })
    await balancer.start()
    const servers = Array.from({ length: SERVICES }, (_, index) => server(index, BACKENDS))

    const load = await medianMs(1, () =>
      balancer.apply(
        servers.map((want) => ({ want, have: undefined })),
        signal
      )
    )
    const loadTheirs = await medianMs(1, () =>
      theirs.exec(['sh', '-c', 'nft -f -'], { input: kubeProxyShape(servers), timeoutMs: 280_000 })
    )

    const first = servers[0]
    if (first === undefined) return []
    const fewer = { ...first, realServers: first.realServers.slice(1) }
    const change = await medianMs(7, (run) =>
      balancer.apply([run % 2 === 0 ? { want: fewer, have: first } : { want: first, have: fewer }], signal)
    )
    const changeTheirs = await medianMs(7, () =>
      theirs.exec(['sh', '-c', 'nft -f -'], { input: kubeProxyChange(first), timeoutMs: 60_000 })
    )
    const observe = await medianMs(3, () => balancer.observe(signal))
    const cheap = await cheapRows(lab, signal)
    const observeTheirs = await medianMs(3, () =>
      theirs.exec(['nft', '-j', 'list', 'table', 'ip', 'kube-proxy'], { timeoutMs: 60_000 })
    )

    const host = {
      ...EMPTY_HOST,
      virtualServers: Array.from({ length: 10_000 }, (_, index) => server(index, BACKENDS))
    }
    const changed = {
      ...host,
      virtualServers: host.virtualServers.map((entry, index) => (index === 5000 ? server(5000, 9) : entry))
    }
    const planOne = await medianMs(9, async () => plan(changed, host))
    const planAll = await medianMs(3, async () => plan(host, EMPTY_HOST))
    const shape = `${SERVICES} services × ${BACKENDS}`
    return [
      ...cheap,
      row({
        name: `nft: load ${shape}`,
        value: load,
        unit: 'ms',
        baseline: { name: 'chain per service and endpoint', value: loadTheirs },
        aim: atMost(0.5)
      }),
      row({
        name: `nft: one endpoint of ${SERVICES} services changes`,
        value: change,
        unit: 'ms',
        baseline: { name: 'chain per service and endpoint', value: changeTheirs },
        aim: atMost(1)
      }),
      row({
        name: `nft: read back ${shape}`,
        value: observe,
        unit: 'ms',
        baseline: { name: 'list of the other shape', value: observeTheirs },
        aim: atMost(1)
      }),
      row({
        name: 'plan: one change among 10,000 services',
        value: planOne,
        unit: 'ms',
        baseline: { name: 'planning all 10,000', value: planAll },
        aim: atMost(0.5)
      })
    ]
  } finally {
    await lab.close()
  }
}

/** With netlink as the agent has it: what reading back costs where nothing changed, and one change beside a large foreign set. */
async function cheapRows(lab: Lab, signal: AbortSignal): Promise<Row[]> {
  const host = await lab.namespace('netlink')
  const run = createRun({ prefix: ['ip', 'netns', 'exec', host.name] })
  const openKernel = () => inNamespace(host, () => openNftKernel(TABLE))
  const balancer = createNftLoadBalancer({ run, names: { nftTable: TABLE }, openKernel })
  await balancer.start()
  try {
    const servers = Array.from({ length: 10_000 }, (_, index) => server(index, BACKENDS))
    await balancer.apply(
      servers.map((want) => ({ want, have: undefined })),
      signal
    )
    await balancer.observe(signal)
    const quiet = await medianMs(9, () => balancer.observe(signal))
    const full = await medianMs(2, () =>
      host.exec(['nft', '-j', 'list', 'table', 'inet', TABLE], { timeoutMs: 100_000 })
    )
    await host.exec(['sh', '-c', 'nft -f -'], { input: bigSet(200_000), timeoutMs: 100_000 })
    await balancer.observe(signal)
    const [first] = servers
    if (first === undefined) return []
    const fewer = { ...first, realServers: first.realServers.slice(1) }
    const change = await medianMs(9, (turn) =>
      balancer.apply([turn % 2 === 0 ? { want: fewer, have: first } : { want: first, have: fewer }], signal)
    )
    const after = await medianMs(9, () => balancer.observe(signal))
    await host.exec(['nft', 'table inet small { set s { type ipv4_addr; }; }'])
    const changeTheirs = await medianMs(3, (turn) =>
      host.exec(['nft', `${turn % 2 === 0 ? 'add' : 'delete'} element inet small s { 10.1.0.1 }`], {
        timeoutMs: 100_000
      })
    )
    const most = (limit: number) => ({
      text: `≤ ${limit} ms`,
      holds: (value: number) => value <= limit
    })
    return [
      row({
        name: `nft: read back 10,000 × ${BACKENDS} where nothing changed`,
        value: quiet,
        unit: 'ms',
        baseline: { name: 'nft lists the same table', value: full },
        aim: most(100)
      }),
      row({
        name: 'nft: one endpoint changes beside a foreign set of 200,000',
        value: change,
        unit: 'ms',
        baseline: { name: 'nft adds or deletes one element', value: changeTheirs },
        aim: most(100)
      }),
      row({
        name: 'nft: read back beside a foreign set of 200,000',
        value: after,
        unit: 'ms',
        baseline: { name: 'nft lists the same table', value: full },
        aim: most(100)
      })
    ]
  } finally {
    await balancer.stop?.()
  }
}

/** As a list of blocked addresses is kept. */
function bigSet(size: number): string {
  const elements = Array.from(
    { length: size },
    (_, index) => `11.${index >> 16}.${(index >> 8) & 255}.${index & 255}`
  )
  return `table inet blocked { set s { type ipv4_addr; flags interval; elements = { ${elements.join(', ')} }; }; }\n`
}

function atMost(limit: number) {
  return {
    text: `≤ ${limit} of the baseline`,
    holds: (_: number, ratio: number | undefined) => (ratio ?? Infinity) <= limit
  }
}

function server(index: number, backends: number): VirtualServer {
  const [high, low] = [Math.floor(index / 250), (index % 250) + 1]
  return {
    vip: `10.101.${high}.${low}` as Ip,
    protocol: 'TCP',
    port: 80,
    scheduler: 'rr',
    affinitySeconds: 0,
    realServers: Array.from({ length: backends }, (_, backend) => ({
      ip: `10.${1 + backend}.${high}.${low}` as Ip,
      port: 8080,
      weight: 1
    }))
  }
}

/** As kube-proxy's nftables mode lays it out: a verdict map, a chain per service with a random map, a chain per endpoint. */
function kubeProxyShape(servers: readonly VirtualServer[]): string {
  const chains = servers.flatMap(chainsOf)
  const elements = servers.map((entry) => `${entry.vip} . tcp . ${entry.port} : goto ${chainName(entry)}`)
  return [
    'table ip kube-proxy {',
    ...chains,
    'map service-ips { type ipv4_addr . inet_proto . inet_service : verdict',
    `elements = { ${elements.join(', ')} } }`,
    'chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }',
    'chain prerouting { type nat hook prerouting priority -100; jump services; }',
    '}'
  ].join('\n')
}

function kubeProxyChange(entry: VirtualServer): string {
  const name = chainName(entry)
  return `flush chain ip kube-proxy ${name}\nadd rule ip kube-proxy ${name} ${pick(entry)}\n`
}

function chainsOf(entry: VirtualServer): string[] {
  const endpoints = entry.realServers.map(
    (real, index) =>
      `chain ${chainName(entry)}-${index} { meta l4proto tcp dnat to ${real.ip}:${real.port}; }`
  )
  return [...endpoints, `chain ${chainName(entry)} { ${pick(entry)}; }`]
}

function pick(entry: VirtualServer): string {
  const targets = entry.realServers.map((_, index) => `${index} : goto ${chainName(entry)}-${index}`)
  return `numgen random mod ${entry.realServers.length} vmap { ${targets.join(', ')} }`
}

function chainName(entry: VirtualServer): string {
  return `svc-${entry.vip.replaceAll('.', '-')}`
}
