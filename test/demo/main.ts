// `make demo`: three clusters become one network on this machine, each step run for real, checked, timed and told.
import { parseArgs } from 'node:util'
import { PLAIN } from '../../src/cli/output/style.ts'
import { formatTable } from '../../src/cli/output/table.ts'
import { Lab } from '../lab/support/netns.ts'
import {
  addedEndpoint,
  nameChecks,
  reachChecks,
  removedEndpoint,
  run,
  serviceIp,
  untilAnswered,
  type Change,
  type CheckResult
} from './checks.ts'
import { controlOnly } from './control-only.ts'
import { CLUSTERS, podCidr, serviceCidr, World, type Cluster, type Site } from './site.ts'

const HELP = `usage: make demo [ARGS="--once --json --keep-log"]

Raises the clusters west, east and edge as hosts in network namespaces, joins them with tokens, and checks what was promised.
  --once   end after the checks; exit 0 only if every one held
  --json   print {"checks": [{"name", "ok", "ms", "detail"}]} on standard output; the story goes to standard error
Without --once it stays up until Ctrl-C, which leaves the machine as it was and is no failure.`

// Milliseconds. The checks print the time that they took; these limits only end a demo that would never work, so that a
// busy machine passes, too.
const ANSWERED_MS = 90_000
const TRY_MS = 2000

const { values: args } = parseArgs({
  options: {
    once: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false }
  }
})

// At any moment: the labs and the agents on loopback end with this process (each has its `exit` listener), and one line is said.
for (const [signal, code] of [
  ['SIGINT', args.once ? 130 : 0],
  ['SIGTERM', 143],
  ['SIGHUP', 129]
] as const) {
  process.once(signal, () => {
    process.once('exit', () => say('Gone.')) // the last listener: all is gone by then
    process.exit(code)
  })
}

const results: CheckResult[] = []
process.exitCode = await main()
process.exit()

async function main(): Promise<number> {
  if (args.help) {
    process.stdout.write(`${HELP}\n`)
    return 0
  }
  const reason = Lab.requirements()
  if (reason !== undefined) {
    say(
      `The packet path cannot be shown here: ${reason}.`,
      'What follows is the control plane and DNS alone, and the plan that each host would apply.'
    )
    results.push(...(await controlOnly(say)))
    return report()
  }
  const lab = await Lab.create('demo')
  let world: World | undefined
  try {
    step('Raising three clusters as network namespaces')
    world = await World.raise(lab)
    for (const cluster of CLUSTERS)
      say(
        `  ${cluster.padEnd(5)} pods ${podCidr(cluster)}, services ${serviceCidr(cluster)}, manifests ${world.site(cluster).manifests}`
      )
    await tell(world)
    const code = report()
    if (!args.once) {
      lookAround(world)
      await new Promise(() => undefined) // until a signal
    }
    return code
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    results.push({ name: 'the demo runs to its end', ok: false, ms: 0, detail: message })
    for (const site of world?.sites.values() ?? []) say(`--- end of the log of ${site.cluster}`, site.tail())
    report()
    return 1
  } finally {
    await world?.close()
    await lab.close()
  }
}

async function tell(world: World): Promise<void> {
  const [west, east, edge] = CLUSTERS.map((cluster) => world.site(cluster)) as [Site, Site, Site]
  step('Starting meshd on each gateway; none knows of any other')
  await Promise.all(CLUSTERS.map((cluster) => world.site(cluster).start()))

  step('west makes the mesh')
  await typed(
    west,
    'init',
    '--cluster',
    'west',
    '--pod-cidr',
    podCidr('west'),
    '--service-cidr',
    serviceCidr('west')
  )

  step('west invites east; joining with the token is all that east does')
  const toEast = await invited(west, 'east')
  await check('east: from token to first answered request', () => joins(world, east, toEast))

  step('west invites edge, with a token that names only east')
  const toEdge = await invited(west, 'edge', '--bootstrap', 'east')
  await check('edge: from token to first answered request', () => joins(world, edge, toEdge))
  await check('edge → west: found through east, without being told of it', async () => {
    const started = performance.now()
    await untilAnswered(() => edge.pod(0).tcp(serviceIp.west, 80, { timeoutMs: TRY_MS }), ANSWERED_MS)
    return `answered ${(performance.now() - started).toFixed(0)} ms after edge had joined`
  })

  step('Every pod reaches every service')
  for (const [name, act] of reachChecks(world)) await check(name, act)
  step('Names')
  for (const [name, act] of nameChecks(world)) await check(name, act)

  step('Endpoints come and go')
  await change('a removed endpoint gets no more traffic (west, seen from edge)', () =>
    removedEndpoint(world, 'west', 'edge')
  )
  await change('an added endpoint gets traffic (west, seen from edge)', () =>
    addedEndpoint(world, 'west', 'edge')
  )

  step('west loses power')
  await west.powerOff()
  for (const [name, act] of reachChecks(world, ['east', 'edge'])) await check(`without west, ${name}`, act)
  await check('without west, cluster.all still answers', async () => {
    const { addresses, error } = await edge.pod(0).resolve('web.shop.svc.cluster.all')
    if (error !== undefined || !addresses.includes(serviceIp.east))
      throw new Error(error ?? addresses.join(', '))
    return addresses.join(', ')
  })

  step('west comes back from its disk, without a token')
  await check('west is back', async () => {
    const started = performance.now()
    await west.powerOn()
    await untilAnswered(() => east.pod(0).tcp(serviceIp.west, 80, { timeoutMs: TRY_MS }), ANSWERED_MS)
    await untilAnswered(() => west.pod(0).tcp(serviceIp.edge, 80, { timeoutMs: TRY_MS }), ANSWERED_MS)
    return `answering again ${(performance.now() - started).toFixed(0)} ms after power-on`
  })
  for (const [name, act] of reachChecks(world).filter(([name]) => name.includes('west')))
    await check(`west back, ${name}`, act)
  for (const cluster of CLUSTERS) {
    await check(`${cluster}: host in step, a second pass has nothing to do`, async () => {
      const end = performance.now() + ANSWERED_MS
      for (;;) {
        const { inStep, steps } = await world
          .site(cluster)
          .ask<{ inStep: boolean; steps: { commands: string[] }[] }>('plan')
        if (inStep) return 'meshctl plan: in step'
        if (performance.now() > end) throw new Error(steps.flatMap(({ commands }) => commands).join('; '))
      }
    })
  }
}

/** `meshctl join`, then the first request of a pod of the newcomer that is answered by a pod of west or east. */
async function joins(world: World, site: Site, token: string): Promise<string> {
  const target: Cluster = site.cluster === 'east' ? 'west' : 'east'
  const started = performance.now()
  await typed(site, 'join', token)
  const joinedMs = performance.now() - started
  const reply = await untilAnswered(
    () => site.pod(0).tcp(`web.shop.svc.cluster.${target}`, 80, { timeoutMs: TRY_MS }),
    ANSWERED_MS
  )
  const ms = performance.now() - started
  void world
  return `${ms.toFixed(0)} ms (joined after ${joinedMs.toFixed(0)} ms); answered by ${reply.answers[0]?.pod}`
}

async function invited(site: Site, cluster: Cluster, ...flags: string[]): Promise<string> {
  const output = await typed(
    site,
    'invite',
    cluster,
    '--pod-cidr',
    podCidr(cluster),
    '--service-cidr',
    serviceCidr(cluster),
    ...flags
  )
  return output.trim()
}

/** Shows the command as it is typed on the gateway, and runs it. */
async function typed(site: Site, ...command: string[]): Promise<string> {
  say(
    `  ${site.cluster}$ meshctl ${command.map((word) => (word.startsWith('rzm2_') ? `${word.slice(0, 16)}…` : word)).join(' ')}`
  )
  const { exitCode, stdout, stderr } = await site.ctl(...command)
  const shown = `${stdout}${stderr}`.trimEnd().replaceAll(/(rzm2_.{11})\S+/g, '$1…')
  say(...shown.split('\n').map((line) => `  ${line}`))
  if (exitCode !== 0)
    throw new Error(`meshctl ${command[0]} in ${site.cluster} ended with ${exitCode}: ${stderr}`)
  return stdout
}

async function check(name: string, act: () => Promise<string>): Promise<void> {
  const result = await run(name, act)
  results.push(result)
  say(`  ${result.ok ? 'ok  ' : 'FAIL'} ${name.padEnd(62)} ${result.detail}`)
}

function change(name: string, act: () => Promise<Change>): Promise<void> {
  return check(name, async () => (await act()).detail)
}

function report(): number {
  const failed = results.filter((result) => !result.ok)
  if (args.json) process.stdout.write(`${JSON.stringify({ checks: results }, undefined, 2)}\n`)
  const table = formatTable(
    results,
    [
      { title: 'CHECK', value: ({ name }) => name },
      { title: 'HELD', value: ({ ok }) => (ok ? 'yes' : 'NO') },
      { title: 'MS', value: ({ ms }) => ms.toFixed(1) },
      { title: 'SEEN', value: ({ detail }) => detail.split('\n')[0] ?? '' }
    ],
    { style: PLAIN, headers: true, width: undefined }
  )
  say('', table, '', `${results.length - failed.length} of ${results.length} checks held.`)
  return failed.length === 0 && results.length > 0 ? 0 : 1
}

function lookAround(world: World): void {
  const west = world.site('west')
  say('', 'It stays up now. In another terminal:')
  for (const command of ['peers', 'services', 'routes', 'dns web.shop.svc.cluster.all', 'plan'])
    say(`  bin/meshctl --socket ${west.socket} ${command}`)
  say(
    `  ip netns exec ${west.gateway.name}-a getent hosts web.shop.svc.cluster.edge`,
    `  edit ${west.manifests}/storefront.yaml and watch the other clusters follow`,
    'Ctrl-C takes it all down.'
  )
}

function step(text: string): void {
  say('', `» ${text}`)
}

/** The story goes to standard error with --json, so that standard output is JSON alone. */
function say(...lines: readonly string[]): void {
  const stream = args.json ? process.stderr : process.stdout
  for (const line of lines) stream.write(`${line}\n`)
}
