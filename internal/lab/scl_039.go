package lab

// clientVersions is SCL-039: every release as a client of every release, in
// equal parts.
func clientVersions(r *Run) error {
	releases := []release{release1, release2, release3}
	return r.mixVersions("client_version_errors", r.Scaled("sessions"),
		func(i int) release { return releases[i%len(releases)] },
		func(station int) release { return releases[station%len(releases)] })
}
