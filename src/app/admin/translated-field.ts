// The field `translated` of answers: which real prefix stands behind a prefix of the mesh.
import type { Translation } from '../../core/model/translation.ts'

/** Returns the field, or none while no address is translated. */
export function translatedField(translation: Translation | undefined): {
  readonly translated?: Readonly<Record<string, string>>
} {
  const pairs = [...(translation?.pods ?? []), ...(translation?.services ?? [])]
  if (pairs.length === 0) return {}
  return { translated: Object.fromEntries(pairs.map(({ real, virtual }) => [virtual, real])) }
}
