import assert from 'node:assert/strict'
import type { VirtualServer } from '../../../../src/core/host/host-state.ts'
import type { Ip } from '../../../../src/core/model/values.ts'
import { HostError } from '../../../../src/io/host/errors.ts'
import {
  coverOf,
  isStray,
  parseFlow,
  withFlowEnds,
  type Flow
} from '../../../../src/io/host/load-balancer/flow-ends.ts'
import type { LoadBalancer, Run } from '../../../../src/io/host/ports.ts'
import { TranslatedSources } from '../../../../src/io/host/translated-sources.ts'

const { signal } = new AbortController()
const VIP = '10.96.0.1' as Ip
const LINE =
  'udp      17 27 src=10.2.0.2 dst=10.96.0.1 sport=40053 dport=53 [UNREPLIED] src=10.1.0.11 dst=10.2.0.2 sport=8080 dport=40053 mark=0 use=1'
const FLOW: Flow = {
  protocol: 'UDP',
  source: '10.2.0.2' as Ip,
  vip: VIP,
  port: 53,
  ip: '10.1.0.11' as Ip,
  realPort: 8080,
  replyTo: '10.2.0.2' as Ip,
  unreplied: true
}

function server(ips: readonly string[], more: Partial<VirtualServer> = {}): VirtualServer {
  const realServers = ips.map((ip) => ({ ip: ip as Ip, port: 8080, weight: 1 }))
  return { vip: VIP, protocol: 'UDP', port: 53, scheduler: 'rr', affinitySeconds: 0, realServers, ...more }
}

describe('a line of conntrack', () => {
  it('is read in both directions', () => {
    assert.deepEqual(parseFlow(LINE), FLOW)
    const tcp =
      'tcp      6 431999 ESTABLISHED src=fd02::2 dst=fd96::1 sport=40053 dport=80 src=fd01::11 dst=fd02::2 sport=8080 dport=40053 [ASSURED] mark=0 use=1'
    assert.deepEqual(parseFlow(tcp), {
      protocol: 'TCP',
      source: 'fd02::2',
      vip: 'fd96::1',
      port: 80,
      ip: 'fd01::11',
      realPort: 8080,
      replyTo: 'fd02::2',
      unreplied: false
    })
  })

  it('is none of ours with a zone, without ports, at the end of a connection, or as a summary', () => {
    for (const line of [
      'conntrack v1.4.7 (conntrack-tools): 1 flow entries have been shown.',
      'icmp     1 29 src=10.2.0.2 dst=10.96.0.1 type=8 code=0 id=1 src=10.96.0.1 dst=10.2.0.2 type=0 code=0 id=1 use=1',
      LINE.replace(' mark=0', ' zone=3 mark=0'),
      LINE.replace('udp      17 27', 'tcp      6 27 TIME_WAIT'),
      ''
    ])
      assert.equal(parseFlow(line), undefined, line)
  })
})

describe('the prefix that conntrack is asked for', () => {
  const rows: readonly (readonly [readonly string[], string])[] = [
    [['10.96.0.1'], '10.96.0.1/32'],
    [['10.96.0.1', '10.96.0.3'], '10.96.0.0/30'],
    [['10.96.0.1', '10.111.255.7', '10.100.0.9'], '10.96.0.0/12'],
    [['10.0.0.1', '192.0.2.1'], '0.0.0.0/0'],
    [['fd96::1', 'fd96::1:1'], 'fd96::/111'],
    [['fd96::1', '2001:db8::1'], '::/0']
  ]
  for (const [ips, expected] of rows)
    it(`for ${ips.join(' and ')} is ${expected}`, () => assert.equal(coverOf(new Set(ips)), expected))
})

describe('a flow is a stray', () => {
  const cases: readonly (readonly [string, Flow, VirtualServer | undefined, boolean])[] = [
    ['where its backend serves', FLOW, server(['10.1.0.11']), false],
    [
      'where its backend drains',
      FLOW,
      server([], { realServers: [{ ...server(['10.1.0.11']).realServers[0]!, weight: 0 }] }),
      false
    ],
    ['where its backend is gone', FLOW, server(['10.1.0.12']), true],
    ['where its backend has another port', { ...FLOW, realPort: 8081 }, server(['10.1.0.11']), true],
    ['where the server is gone', FLOW, undefined, true],
    ['where it was never balanced', { ...FLOW, ip: VIP, realPort: 53 }, server(['10.1.0.11']), true],
    [
      'where its source was translated and nothing answers',
      { ...FLOW, replyTo: '192.0.2.1' as Ip },
      server(['10.1.0.11']),
      true
    ],
    [
      'where its source was translated and it is answered',
      { ...FLOW, replyTo: '192.0.2.1' as Ip, unreplied: false },
      server(['10.1.0.11']),
      false
    ],
    [
      'where a pod reaches itself',
      { ...FLOW, source: FLOW.ip, replyTo: '10.1.0.1' as Ip },
      server(['10.1.0.11']),
      false
    ]
  ]
  for (const [what, flow, wanted, expected] of cases)
    it(`${expected ? '' : 'not '}${what}`, () => assert.equal(isStray(flow, wanted), expected))
})

describe('the ends of flows', () => {
  /** A conntrack table of one flow, and a tool that fails as often as asked. */
  function make(sources?: TranslatedSources) {
    const state = {
      flows: [LINE],
      failures: 0,
      commands: [] as string[],
      nowMs: 0,
      kernel: [] as VirtualServer[]
    }
    const run: Run = async (tool, args) => {
      state.commands.push([tool, ...args].join(' '))
      if (state.failures > 0) {
        state.failures--
        throw new HostError({ code: 'TOOL_FAILED', message: 'conntrack failed' })
      }
      if (args[0] === '-D') state.flows = []
      return { stdout: args.includes('ipv4') ? `${state.flows.join('\n')}\n` : '', stderr: '', exitCode: 0 }
    }
    const inner: LoadBalancer = {
      kind: 'nftables',
      start: async () => undefined,
      observe: async () => state.kernel,
      apply: async (changes) => {
        state.kernel = changes.flatMap(({ want }) => want ?? [])
      },
      describe: () => [],
      cleanup: async () => undefined
    }
    return {
      state,
      balancer: withFlowEnds(inner, { run, nowMs: () => state.nowMs, ...(sources && { sources }) })
    }
  }

  it('are tried again in each look until they are done', async () => {
    const { state, balancer } = make()
    state.kernel = [server(['10.1.0.11'])]
    await balancer.observe(signal)
    assert.equal(state.flows.length, 1)
    state.failures = 3 // when it lists, when it lists again, when it deletes
    await balancer.apply([{ want: server(['10.1.0.12']), have: server(['10.1.0.11']) }], signal)
    for (let look = 0; look < 2; look++) {
      assert.equal(state.flows.length, 1)
      await balancer.observe(signal)
    }
    assert.equal(state.failures, 0)
    await balancer.observe(signal)
    assert.equal(state.flows.length, 0)
  })

  it('are found at the first look after a start, whatever the last agent left', async () => {
    const { state, balancer } = make()
    state.kernel = [server(['10.1.0.12'])]
    await balancer.observe(signal)
    assert.equal(state.flows.length, 0)
  })

  it('are those with another source than the translation of this cluster gives them', async () => {
    for (const [replyTo, ends] of [
      ['10.128.0.2', false],
      ['10.2.0.2', true],
      ['192.0.2.1', true]
    ] as const) {
      const sources = new TranslatedSources()
      const { state, balancer } = make(sources)
      state.flows = [LINE.replace('src=10.1.0.11 dst=10.2.0.2', `src=10.1.0.11 dst=${replyTo}`)]
      state.kernel = [server(['10.1.0.11'])]
      sources.use({ translatedPods: ['10.2.0.0/16 10.128.0.0/16'] })
      await balancer.observe(signal)
      assert.equal(state.flows.length, ends ? 0 : 1, replyTo)
      // The flows of other clients to this backend are right, so the deletion names the wrong address.
      const deletion = state.commands.find((command) => command.includes(' -D '))
      assert.equal(deletion?.includes(`--reply-dst ${replyTo}`), ends ? true : undefined)
    }
  })

  it('are unknown before the filter has said what it translates', async () => {
    const { state, balancer } = make(new TranslatedSources())
    state.flows = [LINE.replace('src=10.1.0.11 dst=10.2.0.2', 'src=10.1.0.11 dst=192.0.2.1')]
    state.kernel = [server(['10.1.0.11'])]
    await balancer.observe(signal)
    assert.equal(state.flows.length, 1)
  })

  it('are asked for once more after a change, then only now and then', async () => {
    const { state, balancer } = make()
    state.flows = []
    await balancer.apply([{ want: server(['10.1.0.12']), have: undefined }], signal)
    await balancer.observe(signal)
    state.commands = []
    for (let look = 0; look < 5; look++) await balancer.observe(signal)
    assert.deepEqual(state.commands, [])
    state.nowMs += 60_000
    await balancer.observe(signal)
    assert.ok(state.commands.length > 0)
  })

  it('are left alone where backends only come', async () => {
    const { state, balancer } = make()
    const tcp = (ips: readonly string[]) => server(ips, { protocol: 'TCP', port: 80 })
    state.kernel = [tcp(['10.1.0.11'])]
    await balancer.observe(signal)
    state.commands = []
    const more = tcp(['10.1.0.11', '10.1.0.12'])
    await balancer.apply([{ want: more, have: tcp(['10.1.0.11']) }], signal)
    await balancer.observe(signal)
    assert.deepEqual(state.commands, [])
  })

  it('are given up, and said so once, without the tool', async () => {
    const warnings: string[] = []
    const run: Run = async () => {
      throw new HostError({ code: 'TOOL_MISSING', message: 'the tool conntrack is not installed' })
    }
    const { balancer: inner, state } = make()
    state.kernel = [server(['10.1.0.12'])]
    const balancer = withFlowEnds(inner, { run, warn: (text) => warnings.push(text) })
    for (let look = 0; look < 3; look++) await balancer.observe(signal)
    assert.equal(warnings.length, 1)
    assert.match(warnings[0] ?? '', /install the package conntrack/)
  })
})
