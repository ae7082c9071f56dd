// The real prefixes of a cluster whose addresses are translated (core/model/translation.ts): what a person named, or what the
// Kubernetes API reports, paired with the prefixes that the cluster has in the mesh.
import type { Cidr } from '../../core/model/values.ts'
import { checkPrefixes, type Prefixes } from '../../core/model/prefixes.ts'
import {
  createTranslation,
  pairPrefixes,
  realPrefixes,
  translationFault,
  type RealPrefix
} from '../../core/model/translation.ts'
import { AppError } from '../observe/errors.ts'

/**
 * Pairs each real prefix with one of the mesh. A kind of which no real prefix is named is not translated. Errors: AppError
 * TRANSLATION_MISMATCH when a prefix has no partner of its family and length, BAD_ARGUMENT when prefixes overlap.
 */
export function translatedPrefixes(real: Prefixes, inMesh: Prefixes): readonly RealPrefix[] {
  const named = namedPrefixes(real)
  const virtual = {
    podPrefixes: real.podPrefixes.length === 0 ? [] : inMesh.podPrefixes,
    servicePrefixes: real.servicePrefixes.length === 0 ? [] : inMesh.servicePrefixes
  }
  const { prefixes, unpaired } = pairPrefixes(named, virtual)
  const alone = prefixes.filter((prefix) => prefix.virtual === undefined).map((prefix) => prefix.real)
  if (alone.length + unpaired.length > 0) throw mismatch({ alone, unpaired, real })
  // Of a kind that keeps its addresses, those of the mesh are the real ones.
  const kept = checkPrefixes(realPrefixes(inMesh, createTranslation(prefixes)))
  const fault = translationFault(prefixes) ?? (kept && `of the real prefixes, ${kept}`)
  if (fault !== undefined)
    throw new AppError(
      'BAD_ARGUMENT',
      fault,
      'name the real prefixes of this cluster, and others for the mesh'
    )
  return prefixes
}

/** The prefixes as a list. */
export function namedPrefixes({ podPrefixes, servicePrefixes }: Prefixes): readonly RealPrefix[] {
  return [
    ...podPrefixes.map((real) => ({ kind: 'pod' as const, real })),
    ...servicePrefixes.map((real) => ({ kind: 'service' as const, real }))
  ]
}

/**
 * Refuses a join that names no real prefix of a kind of which the token names some: the cluster would announce addresses that
 * its pods and services do not have. Errors: AppError TRANSLATION_MISMATCH.
 */
export function refuseForgotten(expected: readonly RealPrefix[], real: Prefixes | undefined): void {
  const given = namedPrefixes(real ?? { podPrefixes: [], servicePrefixes: [] })
  const forgotten = expected.filter(({ kind }) => given.every((prefix) => prefix.kind !== kind))
  if (forgotten.length === 0) return
  const names = forgotten.map(({ kind, real: cidr }) => `${kind}s ${cidr}`)
  throw new AppError(
    'TRANSLATION_MISMATCH',
    `the token was made for a cluster that really has ${names.join(' and ')}, which others stand for in the mesh, but the command names no such prefix`,
    `repeat it with ${flagsOf(expected)}, or with --translate where the Kubernetes API reports them; for a cluster without a translation, ask for a token that was made without these flags`
  )
}

function flagsOf(prefixes: readonly RealPrefix[]): string {
  return prefixes.map(({ kind, real }) => `--real-${kind}-cidr ${real}`).join(' ')
}

function mismatch({
  alone,
  unpaired,
  real
}: {
  readonly alone: readonly Cidr[]
  readonly unpaired: readonly Cidr[]
  readonly real: Prefixes
}): AppError {
  const causes = [
    ...(alone.length === 0 ? [] : [`the real prefixes ${alone.join(', ')} have none in the mesh`]),
    ...(unpaired.length === 0
      ? []
      : [`the prefixes ${unpaired.join(', ')} of the mesh stand for no real one`])
  ]
  return new AppError(
    'TRANSLATION_MISMATCH',
    `addresses are translated between prefixes of one family and length, but ${causes.join(', and ')}`,
    `use prefixes of the same lengths and families on both sides; \`meshctl invite <cluster> ${flagsOf(namedPrefixes(real))}\` chooses free ones, as \`meshctl init\` does, where --pod-cidr and --service-cidr are left out`
  )
}
