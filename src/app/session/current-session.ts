// Which mesh this agent is in now, if any. Parts that live as long as the process (source, admin API, enrolment) look
// here for the present session.
import type { Membership } from '../identity/identity.ts'
import { AppError } from '../observe/errors.ts'
import { ownAgents } from './members.ts'
import type { Session } from './session.ts'
import { SPEAKER_TERM_MIN, termFloor } from './speaker.ts'

/**
 * Holds at most one session, which has the membership. enrolment/ sets it after a start of the agent, init or join, and
 * clears it on leave and after a join that failed.
 */
export class CurrentSession {
  #session: Session | undefined
  /** True while a session waits for a member to accept this cluster: the join may still fail. */
  isJoining = false
  /** What key-inheritance.ts does after each change of the session's view. */
  onView: () => void = () => undefined

  get session(): Session | undefined {
    return this.#session
  }

  get membership(): Membership | undefined {
    return this.#session?.membership
  }

  /** False when a statement that is known here has ended this agent or its cluster. */
  get stands(): boolean {
    return this.endedBecause === undefined
  }

  /** Why a statement that is known here has ended this agent or its cluster; undefined while it stands. */
  get endedBecause(): string | undefined {
    const control = this.#session?.control
    const verdict = control?.members.verdictOn(control.origin)
    return verdict?.kind === 'fallen' ? verdict.reason : undefined
  }

  /** Returns the lowest term in which this agent may publish as speaker. */
  termFloor(): number {
    const control = this.#session?.control
    return control === undefined ? SPEAKER_TERM_MIN : termFloor(control.origin, ownAgents(control.view()))
  }

  /** Returns the session. Errors: AppError NOT_JOINED. */
  required(): Session {
    return requireSession(this.#session)
  }

  set(session: Session): void {
    this.#session = session
  }

  clear(): void {
    this.#session = undefined
  }
}

/** Returns the session, or throws for requests that need one. Errors: AppError NOT_JOINED. */
export function requireSession(session: Session | undefined): Session {
  if (session !== undefined) return session
  throw notJoined()
}

/** Returns the error NOT_JOINED. */
export function notJoined(): AppError {
  return new AppError(
    'NOT_JOINED',
    'this cluster is in no mesh yet',
    'run `meshctl init` to make a mesh, or `meshctl join <token>` to join one'
  )
}
