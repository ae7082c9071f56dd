// A gateway on a host where something cannot be done, where a tool hangs, and where others undo what it has done.
import assert from 'node:assert/strict'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { PlanAnswer, RoutesAnswer } from '../../src/api/answers.ts'
import { podCidr, serviceCidr, type Site } from '../demo/site.ts'
import { eventually } from '../eventually.ts'
import { inStep, init, invite, joins, look, marks, raise, reaches, status } from './harness.ts'

// Long before the regular look, which comes every 10 s.
const REPAIRED_MS = 4_000

describe('a gateway with obstacles', function () {
  const { site } = raise('host-damage', ['west', 'east'], { start: false })
  const west = () => site('west')
  const east = () => site('east')

  const tools = () => join(west().folder, 'tools')
  const hangs = (tool: string) => join(tools(), `${tool}.hangs`)

  /** Runs the real tool, but hangs while a file is there. */
  function wrap(tool: string): void {
    const script = `#!/bin/sh\n[ -e ${hangs(tool)} ] && sleep 600\nPATH=\${PATH#*:}\nexec ${tool} "$@"\n`
    writeFileSync(join(tools(), tool), script, { mode: 0o755 })
  }

  before(async () => {
    mkdirSync(tools(), { recursive: true })
    for (const tool of ['nft', 'ip', 'wg']) wrap(tool)
    const path = `PATH=${tools()}:${process.env['PATH'] ?? '/usr/bin:/bin'}:/usr/sbin:/sbin`
    await west().gateway.exec(['sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=1'])
    await Promise.all([west().startUnder(['env', path]), east().start()])
    await init(west())
    const token = await invite(
      west(),
      'east',
      '--pod-cidr',
      'fd00:2::/64',
      '--service-cidr',
      'fd00:102::/108'
    )
    await joins(east(), token)
    await reaches(west(), east())
  })

  const states = async (on: Site) =>
    Object.fromEntries(
      (await look<RoutesAnswer>(on, 'routes')).routes.map(({ destination, state }) => [destination, state])
    )
  const told = async (on: Site) => (await status(on)).health?.faults ?? []
  const faults = async (on: Site) => (await told(on)).map(({ code, subject }) => `${code} ${subject ?? ''}`)
  const steps = async (on: Site) => (await look<PlanAnswer>(on, 'plan')).steps.map(({ op }) => op.kind)

  it('calls only those prefixes missing that need IPv6, while IPv6 is switched off, and names cluster, cause and fix', async () => {
    await eventually(async () => {
      assert.deepEqual(await states(west()), {
        [podCidr('east')]: 'installed',
        [serviceCidr('east')]: 'installed',
        'fd00:2::/64': 'missing',
        'fd00:102::/108': 'missing'
      })
      return true
    })
    const step = (await told(west())).filter(({ code }) => code === 'HOST_STEP_FAILED')
    assert.deepEqual(
      step.map(({ subject }) => subject),
      ['cluster east, routes', 'cluster east, service prefixes']
    )
    for (const { message, fix } of step) {
      assert.match(message, /IPv6 is switched off/)
      assert.match(fix, /disable_ipv6=0/)
    }
    assert.deepEqual(await steps(west()), ['addRoute', 'addVip'])
  })

  it('sets them soon after IPv6 has been switched on', async () => {
    await west().gateway.exec(['sysctl', '-qw', 'net.ipv6.conf.all.disable_ipv6=0'])
    await eventually(async () => (await steps(west())).length === 0, 30_000)
    await eventually(async () => {
      assert.doesNotMatch((await faults(west())).join('\n'), /HOST_STEP_FAILED/)
      return true
    })
    assert.ok(Object.values(await states(west())).every((state) => state === 'installed'))
  })

  afterEach(function () {
    if (this.currentTest?.state === 'failed') console.error(west().tail(40))
  })

  interface Damage {
    readonly act: readonly string[]
    /** Its output is as before once the damage has been repaired. */
    readonly seen: readonly string[]
  }
  const tables = ['nft', 'list', 'tables']
  const chain = ['nft', '-s', 'list', 'chain', 'inet', 'rhizome-filter', 'forward']
  const local = ['ip', 'route', 'show', 'table', 'local', 'proto', '142']
  const damages: Record<string, (device: string) => Damage> = {
    'nft flush ruleset': () => ({ act: ['nft', 'flush', 'ruleset'], seen: tables }),
    'the filter deleted': () => ({
      act: ['nft', 'delete', 'table', 'inet', 'rhizome-filter'],
      seen: tables
    }),
    'a chain of the filter emptied': () => ({
      act: ['nft', 'flush', 'chain', 'inet', 'rhizome-filter', 'forward'],
      seen: chain
    }),
    'the load balancer deleted': () => ({
      act: ['nft', 'delete', 'table', 'inet', 'rhizome'],
      seen: tables
    }),
    'the rule deleted': () => ({
      act: ['ip', 'rule', 'delete', 'preference', '5142'],
      seen: ['ip', 'rule', 'show', 'preference', '5142']
    }),
    'the routes deleted': () => ({
      act: ['ip', 'route', 'flush', 'table', '5142'],
      seen: ['ip', 'route', 'show', 'table', '5142', podCidr('east')]
    }),
    'a service prefix deleted': () => ({
      act: ['ip', 'route', 'delete', 'local', serviceCidr('east'), 'dev', 'lo'],
      seen: local
    }),
    'the device down': (device) => ({
      act: ['ip', 'link', 'set', 'dev', device, 'down'],
      seen: ['ip', '-br', 'link', 'show', 'dev', device, 'up']
    }),
    'the device deleted': (device) => ({
      act: ['ip', 'link', 'delete', 'dev', device],
      seen: ['wg', 'show', device, 'peers']
    }),
    'forwarding off': () => ({
      act: ['sysctl', '-qw', 'net.ipv4.ip_forward=0'],
      seen: ['sysctl', 'net.ipv4.ip_forward']
    })
  }

  for (const [what, damage] of Object.entries(damages)) {
    it(`repairs at once: ${what}`, async () => {
      await inStep(west())
      const { act, seen } = damage(west().device)
      // Read without the agent: a question to it would make it look. A table that is made anew is listed after the others.
      const kernel = async () =>
        (await west().gateway.exec(seen, { check: false })).stdout.split('\n').sort().join('\n')
      const before = await kernel()
      assert.notEqual(before.trim(), '')
      await west().gateway.exec(act)
      await eventually(async () => (await kernel()) === before, REPAIRED_MS)
      await reaches(west(), east())
    })
  }

  it('repairs at once: a WireGuard peer removed, and one that lost its prefixes', async () => {
    const shown = async () =>
      (await west().gateway.exec(['wg', 'show', west().device, 'allowed-ips'])).stdout.trim()
    const before = await shown()
    const [key = ''] = before.split('\t')
    for (const damage of [['remove'], ['allowed-ips', '']]) {
      await west().gateway.exec(['wg', 'set', west().device, 'peer', key, ...damage])
      await eventually(async () => (await shown()) === before, REPAIRED_MS)
    }
    await reaches(west(), east())
  })

  /** Gives a peer a keepalive that the agent must change back; the tunnel goes on. */
  async function otherKeepalive(): Promise<void> {
    const { stdout } = await west().gateway.exec(['wg', 'show', west().device, 'peers'])
    const [key = ''] = stdout.trim().split('\n')
    await west().gateway.exec(['wg', 'set', west().device, 'peer', key, 'persistent-keepalive', '77'])
  }

  for (const tool of ['nft', 'ip', 'wg']) {
    it(`says that ${tool} hangs, goes on with all else, and soon after it answers again is in step`, async () => {
      await inStep(west())
      writeFileSync(hangs(tool), '')
      // What nobody has changed is read without wg and nft, so only a change runs them.
      if (tool === 'wg') await otherKeepalive()
      if (tool === 'nft')
        await west().gateway.exec(['nft', 'add', 'rule', 'inet', 'rhizome-filter', 'forward', 'accept'])
      await eventually(async () => (await faults(west())).includes(`HOST_TOOL_HANGS ${tool}`), 30_000)
      // Something else is repaired meanwhile.
      if (tool === 'nft') {
        await west().gateway.exec(['ip', 'route', 'flush', 'table', '5142'])
        await eventually(async () => {
          const { stdout } = await west().gateway.exec(['ip', 'route', 'show', 'table', '5142'], {
            check: false
          })
          return stdout.includes(podCidr('east'))
        })
      } else {
        await west().gateway.exec(['nft', 'delete', 'table', 'inet', 'rhizome-filter'])
        await eventually(async () => (await marks(west())).includes('rhizome-filter'))
      }
      await reaches(west(), east())
      rmSync(hangs(tool))
      await eventually(async () => {
        assert.doesNotMatch((await faults(west())).join('\n'), /HOST_TOOL_HANGS/)
        return true
      }, REPAIRED_MS)
      await inStep(west())
    })
  }
})
