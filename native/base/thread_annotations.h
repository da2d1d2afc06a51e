// What Clang checks about locks (-Wthread-safety, an error in the checks): which mutex guards a field, and
// which a function needs. Other compilers see nothing.
#pragma once

#if defined(__clang__)
#define TYPHON_THREAD_ATTRIBUTE(x) __attribute__((x))
#else
#define TYPHON_THREAD_ATTRIBUTE(x)
#endif

// of a class
#define TYPHON_CAPABILITY(name) TYPHON_THREAD_ATTRIBUTE(capability(name))
#define TYPHON_SCOPED_CAPABILITY TYPHON_THREAD_ATTRIBUTE(scoped_lockable)
// of a field: it is read and written with this mutex held
#define TYPHON_GUARDED_BY(mutex) TYPHON_THREAD_ATTRIBUTE(guarded_by(mutex))
// of a function: its caller holds it; it takes it; it gives it back
#define TYPHON_REQUIRES(...) TYPHON_THREAD_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define TYPHON_ACQUIRE(...) TYPHON_THREAD_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define TYPHON_RELEASE(...) TYPHON_THREAD_ATTRIBUTE(release_capability(__VA_ARGS__))
#define TYPHON_EXCLUDES(...) TYPHON_THREAD_ATTRIBUTE(locks_excluded(__VA_ARGS__))
// of a function that the analysis cannot follow; a comment beside it says why
#define TYPHON_NO_THREAD_SAFETY_ANALYSIS TYPHON_THREAD_ATTRIBUTE(no_thread_safety_analysis)
