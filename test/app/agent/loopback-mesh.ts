// Hosts of one test with their agents, in a folder of their own, and what the tests about memberships ask of them.
import assert from 'node:assert/strict'
import { cp, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ErrorAnswer, StatusAnswer } from '../../../src/api/answers.ts'
import type { BackupAnswer, RestoredAnswer } from '../../../src/api/membership-answers.ts'
import type { TrustAnswer } from '../../../src/api/trust-answers.ts'
import { eventually } from '../../eventually.ts'
import { LoopbackHost } from './loopback-host.ts'

export const PASSPHRASE = 'correct horse battery staple'

/** See the head of this file. One per test. */
export class LoopbackMesh {
  readonly #top: string
  readonly #hosts: LoopbackHost[] = []

  private constructor(top: string) {
    this.#top = top
  }

  static async make(): Promise<LoopbackMesh> {
    return new LoopbackMesh(await mkdtemp(join(tmpdir(), 'rhz-mesh-')))
  }

  /** A host whose agent runs, in no mesh. */
  async host(name: string): Promise<LoopbackHost> {
    const made = await LoopbackHost.make(this.#top, name)
    this.#hosts.push(made)
    return made
  }

  /** West has founded the mesh, and the others have joined it; all are connected with west. */
  async unite<Name extends string>(...names: readonly Name[]): Promise<Record<'west' | Name, LoopbackHost>> {
    const west = await this.host('west')
    await west.init('west', 1)
    const made: Record<string, LoopbackHost> = { west }
    for (const [at, name] of names.entries()) {
      const host = await this.host(name)
      await host.join(await west.invite(name, at + 2))
      await eventually(async () => (await west.connected(name)).length === 1)
      made[name] = host
    }
    return made
  }

  /** Gives an agent the seat of an administrator under the roots of west, for all names. */
  async seat(west: LoopbackHost, of: LoopbackHost, label: string): Promise<void> {
    const { adminKey } = await of.ask<{ adminKey: string }>('/v1/admin/key', {})
    const rights = { names: ['*'], prefixes: ['10.0.0.0/8'], inviteDays: 30, clusters: 10, maySeat: false }
    await done(west, '/v1/admin/add', { label, key: adminKey, ...rights, root: true })
    await eventually(async () => (await trust(of)).seats.some(({ own, stands }) => own && stands))
  }

  /** Copies the state folder of a host, whose agent must not run, to another host or to a place from which it comes back. */
  async copyState(from: LoopbackHost | string, to: LoopbackHost | string): Promise<void> {
    const [source, target] = [from, to].map((place) =>
      typeof place === 'string' ? join(this.#top, place) : join(place.folder, 'state')
    )
    assert.ok(source !== undefined && target !== undefined)
    await rm(target, { recursive: true, force: true })
    await cp(source, target, { recursive: true })
  }

  async close(): Promise<void> {
    await Promise.all(this.#hosts.splice(0).map((each) => each.stop()))
    await rm(this.#top, { recursive: true, force: true })
  }
}

/** A request that must not be refused. */
export async function done<T extends object>(of: LoopbackHost, path: string, body: object = {}): Promise<T> {
  const answer = await of.ask<T & Partial<ErrorAnswer>>(path, body)
  assert.equal(answer.error, undefined, `${path}: ${JSON.stringify(answer.error)}`)
  return answer
}

/** The error of a request that must be refused. */
export async function refusal(
  of: LoopbackHost,
  path: string,
  body: object = {}
): Promise<ErrorAnswer['error']> {
  const { error } = await of.ask<Partial<ErrorAnswer>>(path, body)
  return error ?? assert.fail(`${path} was not refused`)
}

export function backup(of: LoopbackHost): Promise<BackupAnswer> {
  return done<BackupAnswer>(of, '/v1/backup/create', { passphrase: PASSPHRASE })
}

export function restore(to: LoopbackHost, { file }: { readonly file: string }): Promise<RestoredAnswer> {
  return done<RestoredAnswer>(to, '/v1/backup/restore', { file, passphrase: PASSPHRASE })
}

export function trust(of: LoopbackHost): Promise<TrustAnswer> {
  return of.ask<TrustAnswer>('/v1/trust')
}

/** The keys of a name that stand, and whether each of them has the name. */
export async function bearers(
  of: LoopbackHost,
  name: string
): Promise<readonly { readonly key: string; readonly hasName: boolean }[]> {
  const { clusters } = await trust(of)
  return clusters
    .filter((one) => one.name === name && one.stands)
    .map(({ key, hasName }) => ({ key, hasName }))
}

/** The fix of a fault that an agent shows; undefined while it does not show it. */
export async function fixOf(of: LoopbackHost, code: string): Promise<string | undefined> {
  const { health } = await of.ask<StatusAnswer>('/v1/status')
  return health?.faults.find((fault) => fault.code === code)?.fix
}

/** Waits until an agent knows that it, or its cluster, was ended. */
export async function ended(of: LoopbackHost): Promise<void> {
  await eventually(async () => (await fixOf(of, 'MEMBERSHIP_ENDED')) !== undefined)
}

/** Waits until all of these agents hold the same statements. */
export async function inStep(...hosts: readonly LoopbackHost[]): Promise<void> {
  await eventually(async () => {
    const sets = await Promise.all(
      hosts.map(async (each) => (await trust(each)).statements.map(({ id }) => id).toSorted())
    )
    for (const set of sets) assert.deepEqual(set, sets[0])
    return true
  })
}
