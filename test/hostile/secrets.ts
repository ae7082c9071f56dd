// Claim 7: no secret of the run stands anywhere but in the identity file of its own agent.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { basename, join, relative } from 'node:path'
import { decodeInviteToken } from '../../src/core/trust/invite-token.ts'
import type { Cluster } from '../demo/site.ts'
import { crypto } from './attacker.ts'
import { identityOf } from './tokens.ts'
import { answersFor, askText, type World } from './world.ts'

const ALL: readonly Cluster[] = ['west', 'east', 'edge']

/** One secret: whose it is, and its bytes. */
interface Secret {
  readonly name: string
  /** The agent that may have it in its identity file; undefined: no agent. */
  readonly of: Cluster | undefined
  readonly bytes: Buffer
}

export function secretClaims(world: () => World): void {
  describe('the secrets of the run', () => {
    let secrets: readonly Secret[]

    before(async () => {
      await world().complete()
      secrets = [...ALL.flatMap((cluster) => secretsOf(world(), cluster)), ...tokenSecrets(world())]
    })

    it('are known to this search: it finds each of them in the identity file of its agent', () => {
      for (const cluster of ALL) {
        const own = secrets.filter(({ of }) => of === cluster)
        const found = own.filter((secret) => finds(readFileSync(identityPath(world(), cluster)), secret))
        // WireGuard's private key is computed, and stands in no file.
        assert.deepEqual(
          found.map(({ name }) => name),
          own.filter(({ name }) => !name.includes('WireGuard')).map(({ name }) => name)
        )
        assert.ok(found.length >= 3)
      }
    })

    it('are in no log and in no state folder but in the own identity file', () => {
      for (const file of filesBelow(world().folder)) {
        // The database replaces its files while it is read.
        const content = readOrNothing(file)
        const [cluster] = relative(world().folder, file).split('/')
        const isIdentity = /^identity\.(bak\.)?json$/.test(basename(file))
        for (const secret of secrets)
          if (!(isIdentity && secret.of === cluster))
            assert.ok(!finds(content, secret), `${secret.name} is in ${relative(world().folder, file)}`)
      }
    })

    it('are in no metric and in no answer of the admin socket', async () => {
      for (const cluster of ALL) {
        const texts = new Map([['metrics', await world().metrics(cluster)]])
        for (const path of answersFor(cluster)) texts.set(path, await askText(world().agent(cluster), path))
        for (const [what, text] of texts)
          for (const secret of secrets)
            assert.ok(!finds(Buffer.from(text), secret), `${secret.name} is in ${what} of ${cluster}`)
      }
    })

    it('are in no arguments and no environment of any process', () => {
      for (const entry of readdirSync('/proc')) {
        if (!/^\d+$/.test(entry)) continue
        for (const part of ['cmdline', 'environ']) {
          const content = readOrNothing(join('/proc', entry, part))
          for (const secret of secrets)
            assert.ok(!finds(content, secret), `${secret.name} is in ${part} of process ${entry}`)
        }
      }
    })
  })
}

function secretsOf(world: World, cluster: Cluster): readonly Secret[] {
  const { nodeSeed, tunnelSeed, clusterSeed, rootSeeds, seats, pending } = identityOf(world, cluster)
  const texts = {
    'node seed': nodeSeed,
    'tunnel seed': tunnelSeed,
    'cluster seed': clusterSeed,
    'invite seed that waits': pending?.inviteSeed,
    ...Object.fromEntries((rootSeeds ?? []).map((seed, at) => [`root seed ${at}`, seed])),
    ...Object.fromEntries((seats ?? []).map(({ adminSeed }, at) => [`admin seed ${at}`, adminSeed]))
  }
  const secrets = Object.entries(texts).flatMap(([name, text]): readonly Secret[] =>
    text === undefined
      ? []
      : [{ name: `${name} of ${cluster}`, of: cluster, bytes: Buffer.from(text, 'base64') }]
  )
  const wireguard = createHash('sha512').update(Buffer.from(tunnelSeed, 'base64')).digest().subarray(0, 32)
  const clamped = Buffer.from(wireguard)
  clamped[0] = (clamped[0] ?? 0) & 248
  clamped[31] = ((clamped[31] ?? 0) & 127) | 64
  return [
    ...secrets,
    { name: `WireGuard private key of ${cluster}`, of: cluster, bytes: clamped },
    { name: `WireGuard private key of ${cluster}, not clamped`, of: cluster, bytes: wireguard }
  ]
}

/** Tokens, and the seeds in them. Of a token whole, and its last 30 bytes, which hold the checksum. */
function tokenSecrets({ tokens }: World): readonly Secret[] {
  return tokens.flatMap((token, at) => {
    const opened = decodeInviteToken(token, {
      crypto,
      nowSeconds: Math.floor(Date.now() / 1000),
      meshId: undefined
    })
    const seed =
      opened.kind === 'refused'
        ? []
        : [{ name: `invite seed of token ${at}`, bytes: Buffer.from(opened.inviteSeed) }]
    return [{ name: `token ${at}`, bytes: Buffer.from(token) }, ...seed].map((secret) => ({
      ...secret,
      of: undefined
    }))
  })
}

/** Whether a text has a secret: raw, in hexadecimal digits, or in base64 or base64url at any of the three offsets. */
function finds(content: Buffer, { bytes }: Secret): boolean {
  return formsOf(bytes).some((form) => content.includes(form))
}

const forms = new Map<Buffer, readonly Buffer[]>()

function formsOf(bytes: Buffer): readonly Buffer[] {
  const known = forms.get(bytes)
  if (known !== undefined) return known
  const hex = bytes.toString('hex')
  const texts = [hex, hex.toUpperCase()]
  for (const offset of [0, 1, 2]) {
    // Inside a longer text, base64 depends on the place modulo three; the first and the last digits depend on neighbours.
    const inside = Buffer.concat([Buffer.alloc(offset), bytes]).toString('base64')
    const digits = inside.replace(/=+$/, '').slice(offset === 0 ? 0 : offset + 1, -1)
    texts.push(digits, digits.replaceAll('+', '-').replaceAll('/', '_'))
  }
  const made = [bytes, ...texts.map((text) => Buffer.from(text))]
  forms.set(bytes, made)
  return made
}

function identityPath(world: World, cluster: Cluster): string {
  return join(world.folder, cluster, 'state/identity.json')
}

function filesBelow(folder: string): readonly string[] {
  return readdirSync(folder).flatMap((name) => {
    const path = join(folder, name)
    const found = statSync(path, { throwIfNoEntry: false })
    return found?.isDirectory() ? filesBelow(path) : found?.isFile() ? [path] : []
  })
}

/** Of a process that has ended meanwhile or is not ours, and of a file that is gone: nothing. */
function readOrNothing(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch {
    return Buffer.alloc(0)
  }
}
