// The table of metrics against the conventions of Prometheus (https://prometheus.io/docs/practices/naming), and the number of
// series, which a peer must not be able to raise.
import assert from 'node:assert/strict'
import type { MetricType } from 'prom-client'
import { createMetrics } from '../../../src/app/observe/metrics.ts'
import { Propagation } from '../../../src/app/observe/propagation.ts'
import { PathCounts } from '../../../src/app/session/path-counts.ts'
import type { ClusterName, Origin, WireguardKey } from '../../../src/core/model/values.ts'

describe('the metrics', () => {
  it('have names, labels and helps as Prometheus asks for', async () => {
    const { registry } = createMetrics()
    const all = (await registry.getMetricsAsJSON()).filter(({ name }) => !/^(process|nodejs)_/.test(name))
    assert.ok(all.length > 20)
    for (const { name, type, help } of all as readonly {
      name: string
      type: MetricType | string
      help: string
    }[]) {
      assert.match(name, /^rhizome_[a-z]+(_[a-z]+)*$/)
      assert.equal(
        name.endsWith('_total'),
        String(type) === 'counter',
        `${name}: counters and nothing else end in _total`
      )
      if (String(type) === 'histogram') assert.match(name, /_(seconds|bytes)$/)
      assert.doesNotMatch(
        name,
        /_(ms|milliseconds|minutes|kb|mb|percent|count|sum|bucket)(_|$)/,
        'base units'
      )
      assert.match(help, /^[A-Z0-9].*[^.]$/, `${name}: ${help}`)
    }
    const labels = (registry.getMetricsAsArray() as readonly { name: string; labelNames?: string[] }[])
      .filter(({ name }) => name.startsWith('rhizome_'))
      .flatMap(({ labelNames = [] }) => labelNames)
    for (const label of labels) assert.match(label, /^[a-z]+$/)
    // Those that Prometheus and the ServiceMonitor of the chart set.
    for (const taken of ['job', 'instance', 'node', 'pod', 'namespace', 'le', 'quantile'])
      assert.ok(!labels.includes(taken), taken)
  })

  it('say the version', async () => {
    const text = await createMetrics().registry.getSingleMetricAsString('rhizome_build_info')
    assert.match(text, /^rhizome_build_info\{version="[^"]+",nodejs="\d+\.\d+\.\d+"\} 1$/m)
  })
})

describe('the time of a change to a stop', () => {
  const seen: [stop: string, seconds: number][] = []
  let nowMs = 0
  let propagation: Propagation

  beforeEach(() => {
    seen.length = 0
    nowMs = 0
    const observe = ({ stop }: { stop: string }, seconds: number): void => void seen.push([stop, seconds])
    propagation = new Propagation({ observe: observe as never }, () => nowMs)
  })

  const at = (ms: number, act: () => void): void => {
    nowMs = ms
    act()
  }

  it('begins with the oldest change that was not served, and counts nothing without one', () => {
    at(0, () => propagation.begin('view'))
    at(10, () => propagation.done('view'))
    at(1000, () => propagation.changed())
    at(1500, () => propagation.changed())
    at(2000, () => propagation.begin('view'))
    at(3000, () => propagation.done('view'))
    at(4000, () => propagation.done('view'))
    assert.deepEqual(seen, [['view', 2]])
  })

  it('leaves a change that came during the work to the next work', () => {
    at(0, () => propagation.changed())
    at(100, () => propagation.begin('kernel'))
    at(200, () => propagation.changed())
    at(300, () => propagation.done('kernel'))
    at(400, () => propagation.begin('kernel'))
    at(500, () => propagation.done('kernel'))
    assert.deepEqual(seen, [
      ['kernel', 0.3],
      ['kernel', 0.3]
    ])
  })

  it('goes on through work that was interrupted', () => {
    at(0, () => propagation.changed())
    at(100, () => propagation.begin('kernel'))
    at(150, () => propagation.changed())
    at(200, () => propagation.begin('kernel'))
    at(1000, () => propagation.done('kernel'))
    assert.deepEqual(seen, [['kernel', 1]])
  })
})

describe('the metrics of other clusters', () => {
  const metrics = createMetrics()
  let counts: PathCounts

  beforeEach(() => {
    metrics.registry.resetMetrics()
    counts = new PathCounts(metrics)
  })
  afterEach(() => counts.stop())

  /** What is known of clusters with one gateway each. */
  function tell(
    names: readonly string[],
    of: { rx?: number; tx?: number; path?: string; state?: string; rttMs?: number } = {}
  ): void {
    const agents = (name: string) => [{ origin: name, agent: { role: 'gateway', node: name } }]
    const tunnel = (origin: string) => ({
      state: of.state ?? 'up',
      rttMs: of.rttMs,
      stats: { publicKey: `key of ${origin}` as WireguardKey, rxBytes: of.rx ?? 0, txBytes: of.tx ?? 0 }
    })
    const clusters = new Map(
      ['west', ...names].map((name) => [name as ClusterName, { name, agents: agents(name) }])
    )
    counts.tell({
      view: { self: 'west', clusters } as never,
      control: { lag: () => 0, own: { keys: () => [], used: () => ({ keys: 0.5, bytes: 0.25 }) } },
      tunnels: { of: (origin: Origin) => tunnel(origin) as never },
      ways: { of: () => (of.path === undefined ? undefined : ({ path: of.path } as never)) }
    })
  }

  const text = (): Promise<string> => metrics.registry.metrics()
  const value = async (series: string): Promise<number | undefined> => {
    const line = (await text()).split('\n').find((each) => each.startsWith(`${series} `))
    return line === undefined ? undefined : Number(line.split(' ').at(-1))
  }

  it('count bytes since the agent has looked first, also over a new device', async () => {
    const bytes = async () => [
      await value('rhizome_tunnel_bytes_total{cluster="east",direction="in"}'),
      await value('rhizome_tunnel_bytes_total{cluster="east",direction="out"}')
    ]
    tell(['east'], { rx: 1_000_000, tx: 5000 })
    assert.deepEqual(await bytes(), [0, 0])
    tell(['east'], { rx: 1_000_300, tx: 5010 })
    assert.deepEqual(await bytes(), [300, 10])
    tell(['east'], { rx: 40, tx: 5020 })
    assert.deepEqual(await bytes(), [340, 20])
  })

  it('show one path for each gateway, and a relay without its name', async () => {
    tell(['east'], { path: 'relay:hostile"} 1\nx' })
    assert.equal(await value('rhizome_tunnel_path{cluster="east",path="relay"}'), 1)
    assert.equal(await value('rhizome_tunnel_path{cluster="east",path="direct"}'), 0)
    assert.doesNotMatch(await text(), /hostile/)
    tell(['east'], {})
    assert.equal(await value('rhizome_tunnel_path{cluster="east",path="direct"}'), 1)
    assert.equal(await value('rhizome_tunnel_path{cluster="east",path="relay"}'), 0)
    assert.equal(await value('rhizome_quota_used_ratio{quota="keys"}'), 0.5)
  })

  it('end with the cluster, and with the session', async () => {
    tell(['east', 'edge'], { state: 'down', rttMs: 3 })
    assert.equal(await value('rhizome_tunnel_up{cluster="edge"}'), 0)
    tell(['east'], { state: 'down' })
    assert.doesNotMatch(await text(), /edge/)
    assert.equal(await value('rhizome_tunnel_rtt_seconds{cluster="east"}'), undefined)
    counts.stop()
    assert.doesNotMatch(await text(), /cluster="/)
  })

  it('have at most 1,024 clusters, and those that were first stay', async () => {
    tell(['zoo'])
    tell([...Array.from({ length: 2000 }, (_, index) => `a${index}`), 'zoo'])
    const named = new Set([...(await text()).matchAll(/cluster="([^"]*)"/g)].map(([, name]) => name))
    assert.equal(named.size, 1024)
    assert.ok(named.has('zoo'))
  })
})
