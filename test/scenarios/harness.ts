// What every scenario needs: the programs built once, a world that is always taken down, and the words of its checks.
import assert from 'node:assert/strict'
import { writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { join, resolve } from 'node:path'
import type { PeersAnswer, PlanAnswer, ServicesAnswer, StatusAnswer } from '../../src/api/answers.ts'
import { serviceIp } from '../demo/checks.ts'
import { World, type Cluster, type CommandResult, type Site, type WorldOptions } from '../demo/site.ts'
import { build } from '../built.ts'
import { eventually, TRANSLATION } from '../eventually.ts'
import { Lab } from '../lab/support/netns.ts'
import { requireLab } from '../lab/support/require.ts'

export const ROOT = resolve(import.meta.dirname, '../..')

// RHIZOME_USER_HOSTS=1: every scenario on hosts that look like a user's.
const USER_HOSTS = process.env['RHIZOME_USER_HOSTS'] === undefined ? false : {}

/** Raises these clusters before the suite and removes them after it, whatever happened. They run, in no mesh yet. */
export function raise(
  label: string,
  clusters: readonly Cluster[],
  options: { readonly start?: boolean; readonly flags?: readonly string[] } & Pick<
    WorldOptions,
    'userHosts' | 'families' | 'alike'
  > = {}
): { readonly world: () => World; readonly site: (cluster: Cluster) => Site } {
  let world: World | undefined
  const raised = (): World => {
    assert.ok(world, 'the world was not raised')
    return world
  }
  before(async function () {
    requireLab(this)
    build()
    const lab = await Lab.create(label)
    try {
      const { userHosts = USER_HOSTS, families, alike } = options
      world = await World.raise(lab, { clusters, userHosts, families, alike })
    } catch (error) {
      await lab.close()
      throw error
    }
    if (options.start === false) return
    await Promise.all([...world.sites.values()].map((site) => site.start(...(options.flags ?? []))))
  })
  after(async () => {
    await world?.close()
    assert.deepEqual(world === undefined ? [] : await Lab.leftovers(world.lab.id), [])
  })
  return { world: raised, site: (cluster) => raised().site(cluster) }
}

/** The first makes the mesh, the others join it. */
export async function unite(first: Site, ...others: readonly Site[]): Promise<void> {
  await init(first)
  for (const site of others) await joins(site, await invite(first, site.cluster))
}

export async function init(site: Site): Promise<void> {
  await done(site.ctl('init', '--cluster', site.cluster, ...site.prefixFlags()))
}

/** Returns the token. */
export async function invite(site: Site, cluster: Cluster, ...flags: readonly string[]): Promise<string> {
  return (await done(site.ctl('invite', cluster, ...site.prefixFlags(cluster), ...flags))).stdout.trim()
}

export async function joins(site: Site, token: string): Promise<void> {
  await done(site.ctl('join', token))
}

export async function done(running: Promise<CommandResult>): Promise<CommandResult> {
  const result = await running
  assert.equal(result.exitCode, 0, `${result.stderr}${result.stdout}`)
  return result
}

/** What a refused command said on standard error. */
export async function refused(running: Promise<CommandResult>): Promise<string> {
  const { exitCode, stdout, stderr } = await running
  assert.notEqual(exitCode, 0, `it was not refused: ${stdout}`)
  return stderr
}

/** A pod of `from` gets an answer from web of `to`, within the deadline. */
export async function reaches(from: Site, to: Site, deadlineMs = 60_000): Promise<void> {
  await eventually(async () => {
    const { error } = await from.pod(0).tcp(serviceIp[to.cluster], 80, { timeoutMs: 500 * TRANSLATION })
    assert.equal(error, undefined, `${from.cluster} → ${to.cluster}: ${error}`)
    return true
  }, deadlineMs)
}

/** Does this while a pod of `from` asks web of `to` without a pause: every request must be answered. */
export async function undisturbed(from: Site, to: Site, act: () => Promise<void>): Promise<void> {
  const ended = new AbortController()
  const failures: Record<string, number> = {}
  let count = 0
  const loop = (async () => {
    while (!ended.signal.aborted) {
      const { error } = await from.pod(0).tcp(serviceIp[to.cluster], 80, { timeoutMs: 2000 })
      count++
      if (error !== undefined) failures[error] = (failures[error] ?? 0) + 1
    }
  })()
  try {
    await act()
  } finally {
    ended.abort()
    await loop
  }
  assert.deepEqual(failures, {}, `of ${count} requests`)
  assert.ok(count > 0)
}

export async function status(site: Site): Promise<StatusAnswer> {
  return look<StatusAnswer>(site, 'status')
}

/** What `meshctl <path> --json` prints, asked for without the cost of a process: scenarios look often. */
export function look<T>(
  site: { readonly cluster: string; readonly socket: string },
  path: 'status' | 'peers' | 'services' | 'routes' | 'plan'
): Promise<T> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath: site.socket, path: `/v1/${path}`, timeout: 10_000 }, (response) => {
      let text = ''
      response.on('data', (chunk) => (text += String(chunk)))
      response.on('end', () => {
        if (response.statusCode === 200) resolve(JSON.parse(text) as T)
        else reject(new Error(`${path} in ${site.cluster}: ${text}`))
      })
    })
    asked.on('error', reject)
    asked.on('timeout', () => asked.destroy(new Error(`no answer to ${path} in ${site.cluster}`)))
    asked.end()
  })
}

export async function peer(site: Site, cluster: Cluster): Promise<PeersAnswer['peers'][number] | undefined> {
  const { peers } = await look<PeersAnswer>(site, 'peers')
  return peers.find((row) => row.cluster === cluster)
}

/** The fault with this code that the agent tells now. */
export async function fault(at: Site, code: string) {
  return ((await status(at)).health?.faults ?? []).find((each) => each.code === code)
}

/** After several failures a tunnel over TCP or a relay tries UDP every 300 s. */
const UDP_TRIED_MS = 330_000

/** Waits until both ends of the tunnel between two sites are up by this path. */
export async function onPath(
  path: string,
  left: Site,
  right: Site,
  deadlineMs = UDP_TRIED_MS
): Promise<void> {
  for (const [from, to] of [
    [left, right.cluster],
    [right, left.cluster]
  ] as const)
    await eventually(async () => {
      const row = await peer(from, to)
      assert.deepEqual([row?.path, row?.state], [path, 'up'], JSON.stringify(row))
      return true
    }, deadlineMs)
}

export async function inStep(site: Site, deadlineMs = 60_000): Promise<void> {
  await eventually(async () => {
    const { inStep: held, steps } = await look<PlanAnswer>(site, 'plan')
    assert.ok(held, steps.flatMap(({ commands }) => commands).join('\n'))
    return true
  }, deadlineMs)
}

/** All that this product could have put into the kernel of a host: empty on a host it never touched. */
export async function marks(site: Site): Promise<string> {
  const run = async (...argv: readonly string[]): Promise<string> =>
    (await site.gateway.exec(argv, { check: false })).stdout
  const [links, rules, routes, tables] = await Promise.all([
    run('ip', '-o', 'link', 'show', 'dev', site.device),
    run('ip', 'rule', 'show', 'pref', '5142'),
    run('ip', 'route', 'show', 'table', 'all', 'proto', '142'),
    run('nft', 'list', 'tables')
  ])
  const own = tables.split('\n').filter((line) => line.includes('rhizome'))
  return [links, rules, routes, ...own].filter((text) => text !== '').join('')
}

/** Further services of this site, in a manifest of their own; `seen` waits until another cluster lists the last of them. */
export function announce(
  site: Site,
  name: string,
  { count = 1 } = {}
): { seen(by: Site, deadlineMs?: number): Promise<void> } {
  const names = Array.from({ length: count }, (_, index) => `${name}-${index}`)
  const documents = names.map(
    (each) => `apiVersion: v1
kind: Service
metadata: { name: ${each}, namespace: shop }
spec: { type: ExternalName, externalName: ${each}.example.org }
`
  )
  writeFileSync(join(site.manifests, `${name}.yaml`), documents.join('---\n'))
  return {
    seen: (by, deadlineMs = 60_000) =>
      eventually(async () => {
        const { services } = await look<ServicesAnswer>(by, 'services')
        return services.some((row) => row.cluster === site.cluster && row.name === names.at(-1))
      }, deadlineMs)
  }
}

/** All of a host's network that this product may touch, as text that two hosts can be compared by. */
export async function network(site: Site): Promise<string> {
  const looks = await Promise.all(
    [
      ['ip', '-o', 'link'],
      ['ip', 'rule'],
      ['ip', '-6', 'rule'],
      ['ip', 'route', 'show', 'table', 'all'],
      ['ip', '-6', 'route', 'show', 'table', 'all'],
      ['nft', 'list', 'ruleset'],
      ['sysctl', '-a', '--pattern', 'ip_forward|forwarding|rp_filter|src_valid_mark|\\.vs\\.']
    ].map(async (argv) => (await site.gateway.exec(argv)).stdout)
  )
  // The kernel's own link-local addresses come a moment after their links.
  return (
    looks
      .flatMap((text) => text.split('\n'))
      .filter((line) => !line.includes('fe80:') || line.startsWith('default'))
      .join('\n')
      // What time and traffic change.
      .replaceAll(/counter packets \d+ bytes \d+/g, 'counter')
      .replaceAll(/expires \d+sec/g, 'expires')
  )
}
