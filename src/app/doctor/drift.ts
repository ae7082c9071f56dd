// The check `drift`: each difference of the kernel from what this host should have, in words and with a fix.
// Between two passes a host differs for a moment, for example while a service changes. So a difference is looked at twice:
// one that is still there the second time is a fault, since a pass has not mended it or another program makes it again.
// Invariant: nothing is changed but a mark that a pass is due (Reconciler.preview).
import { setTimeout as delay } from 'node:timers/promises'
import { differencesOf, watcherOf, type Difference } from '../../core/host/drift.ts'
import { opKey, partOf } from '../../core/host/host-ops.ts'
import { sentence } from '../observe/errors.ts'
import type { Session } from '../session/session.ts'
import type { Finding } from './finding.ts'

// A pass takes less than a second on most hosts.
const AGAIN_MS = 1500
// A host of a large mesh may lack thousands of objects, whose common cause the first ones show.
const LISTED_MAX = 20

/** The part of a session that the check reads. */
type Drifting = {
  readonly reconciler: Pick<NonNullable<Session['reconciler']>, 'preview' | 'failures'> | undefined
}

/** Reads the kernel, and a second time where it differs. Without a data plane there is nothing to compare. */
export async function checkDrift({ reconciler }: Drifting): Promise<readonly Finding[]> {
  if (reconciler === undefined) return []
  const look = async () => {
    const { ops, have } = await reconciler.preview()
    return differencesOf(ops, have)
  }
  const first = await look()
  if (first.length === 0)
    return [{ check: 'drift', state: 'ok', subject: '', text: 'the kernel has what this host should have' }]
  await delay(AGAIN_MS)
  const still = new Set((await look()).map(({ op }) => opKey(op)))
  const failed = new Map(reconciler.failures.steps.map(({ op, error }) => [opKey(op), error]))
  const findings = first.map((difference) => {
    const key = opKey(difference.op)
    return still.has(key) ? lasting(difference, failed.get(key)) : mended(difference)
  })
  const listed = findings
    .toSorted((a, b) => Number(b.state === 'fault') - Number(a.state === 'fault'))
    .slice(0, LISTED_MAX)
  const more = findings.length - listed.length
  return more === 0
    ? listed
    : [
        ...listed,
        {
          check: 'drift',
          state: 'warning',
          subject: '',
          text: `the kernel differs in ${more} more things`,
          fix: '`meshctl plan` lists all'
        }
      ]
}

function lasting({ op, text }: Difference, error: unknown): Finding {
  return {
    check: 'drift',
    state: 'fault',
    subject: partOf(op),
    text,
    fix:
      error === undefined
        ? `another program of this host changes it: stop that program, and meshd sets it again; ${watcherOf(partOf(op))}`
        : `meshd could not set it: ${sentence(error)}`
  }
}

function mended({ op, text }: Difference): Finding {
  return {
    check: 'drift',
    state: 'warning',
    subject: partOf(op),
    text: `${text}; meshd has mended it since`,
    fix: `nothing is to be done now; if it comes back, another program of this host changes it: ${watcherOf(partOf(op))}`
  }
}
